import io

import pytest
import torch

from ctvlm.models.heads.generation.cot_generation_head import IMPRESSION, NUM_CONTROLS, STEP
from ctvlm.models.losses import GenerationLoss
from tests.test_models.test_heads.generation_cases import cot_head, features, loud, samples

NAMES = ["lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"]


def test_one_batch_is_memorised():
    """Greedy generation returns every text and region in order, and stops at the end token."""
    head, data, encoded = cot_head(dropout=0.0, embed_dims=48).train(), samples(), features(4)
    optimizer = torch.optim.AdamW(head.parameters(), lr=5e-3)
    history = []
    for _ in range(120):
        total, count = GenerationLoss().terms(*head.training_logits(encoded, data))
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
        history.append(float((total / count).detach()))
    assert history[-1] < 0.05 * history[0]
    head.eval().predict(encoded, data)
    assert data[0].pred_report == " ".join([*(step.text for step in data[0].steps), data[0].impression])
    assert data[0].pred_cot[1] == dict(text=data[0].steps[1].text, regions=NAMES)
    assert data[1].pred_cot == [] and data[1].pred_report == data[1].pred_conclusion == data[1].impression
    # Steps are grouped by question, in order of first appearance.
    assert [step["text"] for step in data[2].pred_cot] == [step.text for step in data[2].steps]
    assert data[2].pred_conclusion == data[2].impression


def test_a_checkpoint_alone_gives_the_same_text():
    head, encoded = loud(cot_head()), features(2)
    buffer = io.BytesIO()
    torch.save(head.state_dict(), buffer)
    buffer.seek(0)
    fresh = type(head)(in_dims=24, num_regions=5, vocab_size=400, embed_dims=32, depth=2, num_heads=2, max_length=96)
    assert fresh.needs_tokenizer
    with pytest.raises(RuntimeError, match="FitTokenizerHook"):
        fresh.generate(encoded, [["Any effusion?"], [""]])
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    assert not fresh.needs_tokenizer
    assert fresh.eval().generate(encoded, [[""], [""]]) == head.generate(encoded, [[""], [""]])


def test_text_gives_no_control_tokens():
    head = cot_head()
    ids = head._pieces("[PAD] [SEP] <step> <region_1>")
    assert min(ids) >= head.text_offset


def test_malformed_output_is_parsed():
    """Regions after the text or twice, text before any step, two impressions."""
    head = cot_head()
    word = head._pieces("effusion")
    region = NUM_CONTROLS + 4
    answer = head.parse([*word, region, STEP, region, region, *word, IMPRESSION, *word, IMPRESSION, *word, STEP, *word])
    assert [(step.text, step.regions) for step in answer.steps] == [
        ("effusion", (5,)), ("effusion", (5,)), ("effusion", ())
    ]  # fmt: skip
    assert answer.impression == "effusion effusion"
    assert head.parse([]).is_empty
    assert head.parse([head.decoder.config.vocab_size - 1]).steps[0].text == ""


def test_region_tokens_and_memory_share_name_vectors():
    """Changing a region's name vector changes the memory of that region and of its patches only."""
    head, encoded = loud(cot_head()), features(2)
    before, _ = head.encode_visual(encoded)
    with torch.no_grad():
        head.decoder.transformer.wte.weight[NUM_CONTROLS + 1] += 1
    after, mask = head.encode_visual(encoded)
    changed = (after - before).abs().amax(dim=(0, 2)) > 1e-6
    assert changed[2] and changed[6:].any()
    assert not changed[[0, 1, 3, 4, 5]].any()
    assert mask.shape == before.shape[:2]
