"""Properties of both generation heads."""

import numpy as np
import pytest
import torch
from sacrebleu.metrics import BLEU

from ctvlm.datasets.transforms import PackCTInputs
from ctvlm.models.heads.generation.answers import answers_of
from ctvlm.models.heads.generation.base import IGNORED
from ctvlm.models.heads.generation.consensus import most_agreed
from ctvlm.models.losses import GenerationLoss
from tests.test_models.test_heads.generation_cases import (
    IMPRESSIONS,
    STEPS,
    cot_head,
    features,
    loud,
    pick,
    prefix_head,
    sample,
    samples,
    save_language_model,
)

KINDS = ["cot", "prefix-llama", "prefix-gpt2"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {kind: save_language_model(tmp_path_factory.mktemp(kind), kind) for kind in ("llama", "gpt2")}


@pytest.fixture(params=KINDS)
def head(request, folders):
    kind, _, lm = request.param.partition("-")
    return loud(cot_head(dropout=0.0) if kind == "cot" else prefix_head(folders[lm], train="full"))


def terms(head, encoded, data_samples):
    return GenerationLoss().terms(*head.training_logits(encoded, data_samples))


def questions_of(data_samples):
    return [[answer.question for answer in answers_of(one)] for one in data_samples]


@torch.no_grad()
def test_loss_equals_a_naive_loop(head):
    """One answer and one token at a time, without padding."""
    data, encoded, total, count = samples(), features(4), 0.0, 0
    for case, one in enumerate(data):
        memory, mask = head.encode_visual(pick(encoded, [case]))
        for answer in answers_of(one):
            prompt = head.prompt_ids(answer.question)
            ids = [*prompt, *head.answer_ids(answer), head.eos_id]
            for i in range(len(prompt), len(ids)):
                before = torch.tensor([ids[:i]])
                logits = head.logits(before, torch.ones_like(before), memory, mask)[0, -1]
                total -= float(logits.log_softmax(dim=0)[ids[i]])
                count += 1
    found = terms(head, encoded, data)
    assert int(found[1]) == count
    assert float(found[0]) == pytest.approx(total, rel=1e-4)


@torch.no_grad()
def test_loss_is_a_sum_over_cases_in_any_order(head):
    data, encoded = samples(), features(4)
    alone = sum(terms(head, pick(encoded, [b]), [one]) for b, one in enumerate(data))
    order = [2, 0, 3, 1]
    torch.testing.assert_close(terms(head, encoded, data), alone)
    torch.testing.assert_close(terms(head, pick(encoded, order), [data[b] for b in order]), alone)


@torch.no_grad()
def test_loss_reads_no_padding_patch_and_no_absent_region(head):
    data, encoded = samples(), features(4)
    encoded.patch_to_region[:, :, 3] = 0
    assert not encoded.region_mask[:, 2].any()
    assert not encoded.token_mask.all()
    before = terms(head, encoded, data)
    # Noise, because a norm over channels would remove a constant.
    noise = torch.randn_like(encoded.tokens)
    encoded.region_tokens[:, 2] += noise[:, 0]
    encoded.tokens[~encoded.token_mask] += noise[~encoded.token_mask]
    torch.testing.assert_close(terms(head, encoded, data), before)
    encoded.tokens[:, :1] += noise[:, :1]
    assert (terms(head, encoded, data) - before).abs().max() > 1e-2


def test_cases_without_text_give_no_loss_but_a_gradient_for_every_parameter(head):
    head.train()
    found = terms(head, features(2), [sample([]), sample([])])
    assert found.tolist() == [0, 0]
    found[0].backward()
    assert all(p.grad is not None and not p.grad.any() for p in head.parameters())


def test_every_parameter_learns(head):
    encoded = features(4)
    encoded.tokens.requires_grad_()
    terms(head.train(), encoded, samples())[0].backward()
    missing = [name for name, p in head.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not missing
    assert encoded.tokens.grad.abs().sum() > 0


def greedy_by_hand(head, encoded, question, steps):
    memory, mask = head.encode_visual(encoded)
    ids = head.prompt_ids(question)
    new = []
    while len(new) < steps:
        sequence = torch.tensor([ids + new])
        new.append(int(head.logits(sequence, torch.ones_like(sequence), memory, mask)[0, -1].argmax()))
        if new[-1] == head.eos_id:
            return new[:-1]
    return new


@torch.no_grad()
def test_greedy_and_one_beam_equal_a_loop_without_a_cache(head):
    data, encoded = samples(), features(4)
    expected = [
        [head.parse(greedy_by_hand(head, pick(encoded, [b]), question, 20)) for question in asked]
        for b, asked in enumerate(questions_of(data))
    ]
    assert len({str(answer) for answers in expected for answer in answers}) > 3, "the cases of this test differ"
    for settings in ({}, dict(num_beams=1), dict(use_cache=False)):
        assert head.generate(encoded, questions_of(data), max_new_tokens=20, **settings) == expected


def test_beams_do_not_depend_on_the_cache_nor_on_the_batch(head):
    data, encoded = samples(), features(4)
    asked = questions_of(data)
    settings = dict(num_beams=3, max_new_tokens=20)
    together = head.generate(encoded, asked, **settings)
    assert head.generate(encoded, asked, use_cache=False, **settings) == together
    order = [3, 1, 0, 2]
    assert head.generate(pick(encoded, order), [asked[b] for b in order], **settings) == [together[b] for b in order]
    assert head.generate(pick(encoded, [1]), [asked[1]], **settings) == [together[1]]
    assert together != head.generate(encoded, asked, max_new_tokens=20), "beams find other texts than greedy"


def test_sampling_depends_on_the_seed_only(head):
    asked = questions_of(samples())

    def write(seed):
        encoded = features(4)
        torch.manual_seed(seed)
        return head.generate(encoded, asked, do_sample=True, top_p=0.9, max_new_tokens=20)

    assert write(0) == write(0) != write(1)


def test_the_most_agreed_of_several_answers_is_used(head):
    """The samples of a case equal those of a batch of its copies."""
    asked, number = [[""], [""]], 5
    settings = dict(do_sample=True, max_new_tokens=20)
    torch.manual_seed(0)
    found = head.generate(features(2), asked, num_return_sequences=number, **settings)
    torch.manual_seed(0)
    copies = head.generate(pick(features(2), [0] * number + [1] * number), [[""]] * 2 * number, **settings)
    for case, (answer,) in enumerate(found):
        samples_of_case = [one for (one,) in copies[case * number : (case + 1) * number]]
        assert len({one.text for one in samples_of_case}) > 1
        assert answer == samples_of_case[most_agreed([one.text for one in samples_of_case])]


def test_most_agreed_equals_a_loop_over_pairs():
    score = BLEU(effective_order=True).sentence_score
    texts = ["The liver is normal.", "A small nodule is seen in the left lung.", "A small nodule is seen in the lung."]
    texts += ["The lung is clear.", texts[1], ""]
    means = [sum(score(a, [b]).score for j, b in enumerate(texts) if j != i) for i, a in enumerate(texts)]
    assert most_agreed(texts) == int(np.argmax(means)) == 1
    assert most_agreed(["", ""]) == 0


def test_parse_is_the_inverse_of_answer_ids(head):
    for one in samples():
        for answer in answers_of(one):
            parsed = head.parse(head.answer_ids(answer))
            assert (parsed.steps, parsed.impression) == (answer.steps, answer.impression)


def test_answers_keep_order_question_and_impression():
    first, second, last = answers_of(sample([4, 1, 5, 0], IMPRESSIONS[0]))
    assert [answer.question for answer in (first, second, last)] == [STEPS[4].question, "", STEPS[5].question]
    assert [step.text for step in second.steps] == [STEPS[1].text, STEPS[0].text]
    assert [answer.impression for answer in (first, second, last)] == ["", IMPRESSIONS[0], ""]
    only = answers_of(sample([5, 4], IMPRESSIONS[1]))
    assert [answer.impression for answer in only] == ["", IMPRESSIONS[1]]
    assert all(answer.is_empty for answer in answers_of(sample([])))


def test_the_question_of_a_data_set_reaches_the_answers():
    case = dict(case_id="a", patient_id="a", volume=np.zeros((2, 2, 2)), spacing=(1, 1, 1), affine=np.eye(4))
    cot = [dict(text="Yes.", regions=["heart"], question="Is it large?"), dict(text="CT.")]
    packed = PackCTInputs()(case | dict(cot=cot, report=dict(impression="Cardiomegaly.")))["data_samples"]
    asked, plain = answers_of(packed)
    assert (asked.question, asked.impression) == ("Is it large?", "")
    assert (plain.question, plain.impression) == ("", "Cardiomegaly.")


def test_only_the_answer_has_targets_and_a_long_one_is_truncated(head):
    answer = answers_of(samples()[2])[0]
    ids, target = head._row(answer)
    prompt = head.prompt_ids(answer.question)
    assert target == [IGNORED] * len(prompt) + ids[len(prompt) :]
    assert ids[-1] == head.eos_id
    head.max_length = len(prompt) + 2
    assert not head.warned_truncation
    assert [len(part) for part in head._row(answer)] == [len(prompt) + 2] * 2
    assert head.warned_truncation


@torch.no_grad()
def test_confidences_equal_a_naive_loop(head):
    """One answer and one token at a time; parts of the tokens are those of the steps and of the impression."""
    answers = [answers_of(one)[0] for one in samples()]
    encoded = features(4)
    for case, (answer, found) in enumerate(zip(answers, head.confidences(encoded, answers), strict=True)):
        memory, mask = head.encode_visual(pick(encoded, [case]))
        prompt = head.prompt_ids(answer.question)
        ids = [*prompt, *head.answer_ids(answer)]
        parts: dict[int, list[float]] = {}
        for i, part in zip(range(len(prompt), len(ids)), head.answer_parts(answer), strict=True):
            before = torch.tensor([ids[:i]])
            logits = head.logits(before, torch.ones_like(before), memory, mask)[0, -1]
            parts.setdefault(part, []).append(float(logits.softmax(dim=0)[ids[i]]))
        assert len(found) == len(answer.steps) + 1
        for part, value in enumerate(found):
            assert (value is None) == (part not in parts)
            assert value is None or value == pytest.approx(np.mean(parts[part]), rel=1e-4)


def test_parts_of_an_answer_hold_their_text(head):
    answer = answers_of(sample([0, 3, 1], IMPRESSIONS[0]))[0]
    ids, parts = head.answer_ids(answer), head.answer_parts(answer)
    assert len(ids) == len(parts) and parts == sorted(parts) and set(parts) == {0, 1, 2, 3}
    # Everything up to the end of a part parses to the steps so far.
    for count in (1, 2, 3):
        until = head.parse([token for token, part in zip(ids, parts, strict=True) if part < count])
        assert [step.text for step in until.steps] == [step.text for step in answer.steps[:count]]
