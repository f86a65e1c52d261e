import pytest
import torch

from ctvlm.models.objectives import TextBank
from ctvlm.models.objectives.region_mentions import RegionMentions
from ctvlm.models.objectives.text_bank import NO_TEXT
from ctvlm.models.objectives.text_ids import step_id, text_id
from ctvlm.structures import CoTStep, CTDataSample


def sample(impression, *steps):
    return CTDataSample(impression=impression, steps=[CoTStep(text, regions) for text, regions in steps])


SAMPLES = [
    sample("Nodule.", ("Nodule in the liver.", (12,)), ("Liver and spleen otherwise normal.", (12, 14))),
    sample("Normal.", ("Lungs clear.", (1, 2))),
    sample("Nodule."),
]


class Encoder:
    """Counts its calls; the embedding of a text is its length."""

    def __init__(self):
        self.calls = []

    def __call__(self, texts):
        self.calls.append(list(texts))
        return torch.tensor([[float(len(text)), 1.0] for text in texts])


def bank_of(samples):
    encoder = Encoder()
    bank = TextBank(samples, encoder)
    for case, one in enumerate(samples):
        bank.request(case, [one.impression])
    for case, one in enumerate(samples):
        bank.request(case, [step.text for step in one.steps])
    return bank, encoder


def test_each_distinct_text_is_encoded_once_by_case():
    bank, encoder = bank_of([*SAMPLES, *SAMPLES])
    assert bank.embed(["Normal.", "Nodule.", "Normal."])[:, 0].tolist() == [7, 7, 7]
    bank.unit_embed(["Lungs clear."])
    expected = ["Nodule.", "Nodule in the liver.", "Liver and spleen otherwise normal.", "Normal.", "Lungs clear."]
    assert encoder.calls == [expected]


def test_late_and_unknown_texts_are_errors():
    bank, _ = bank_of(SAMPLES)
    with pytest.raises(KeyError, match="never requested"):
        bank.embed(["never requested"])
    bank.embed(["Nodule."])
    with pytest.raises(RuntimeError, match="request"):
        bank.request(0, ["too late"])


def test_a_batch_without_texts_uses_every_parameter_of_the_encoder():
    bank, encoder = bank_of([sample(" "), sample("")])
    assert bank.embed([]).shape == (0, 2)
    assert encoder.calls == [[NO_TEXT]]


def test_mentions_average_their_steps_and_mark_regions_that_are_absent():
    visible = torch.ones(3, 20, dtype=torch.bool)
    visible[1, 1] = False
    mentions = RegionMentions.from_samples(SAMPLES, visible)
    pairs = list(zip(mentions.cases.tolist(), mentions.regions.tolist(), strict=True))
    assert pairs == [(0, 12), (0, 14), (1, 1), (1, 2)]
    assert mentions.present.tolist() == [True, True, True, False]
    assert mentions.steps[:2] == [step.text for step in SAMPLES[0].steps]
    embeddings = torch.randn(len(mentions.steps), 4)
    torch.testing.assert_close(mentions.mean_text(embeddings)[0], embeddings[:2].mean(dim=0))


def test_a_region_that_the_encoder_does_not_have_is_an_error():
    with pytest.raises(ValueError, match=r"case 0: a step mentions region 14, but the encoder has num_regions = 13"):
        RegionMentions.from_samples(SAMPLES, torch.ones(3, 13, dtype=torch.bool))


def test_text_ids_do_not_depend_on_the_process():
    assert text_id("No pleural effusion.") == 1528515884680363796
    assert text_id("a", "b") != text_id("ab")


def test_steps_that_state_that_the_same_regions_are_normal_have_one_id():
    first, second = CoTStep("Lungs clear.", (2, 1), normal=True), CoTStep("Normal lungs.", (1, 2), normal=True)
    assert step_id(first) == step_id(second) != step_id(CoTStep("Lungs clear.", (1, 2)))
