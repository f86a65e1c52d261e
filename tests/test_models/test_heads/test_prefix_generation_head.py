import io
import shutil

import pytest
import torch

from ctvlm.models.heads.generation.memory import VisualMemory
from ctvlm.models.losses import GenerationLoss
from ctvlm.utils import CTVLMError
from ctvlm.utils.pretrained_files import use_pretrained_files
from tests.test_models.test_heads.generation_cases import (
    features,
    loud,
    prefix_head,
    samples,
    save_language_model,
)


@pytest.fixture()
def folder(tmp_path):
    return save_language_model(tmp_path / "lm")


def with_gradient(head):
    GenerationLoss().terms(*head.train().training_logits(features(4), samples()))[0].backward()
    return {name for name, p in head.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_frozen_trains_the_projections_only(folder):
    head = prefix_head(folder)
    assert with_gradient(head) == {name for name, _ in head.named_parameters() if name.startswith("memory.")}
    assert not head.lm.training and head.memory.training


def test_lora_trains_adapters_and_projections(folder):
    head = prefix_head(
        folder, train="lora", lora=dict(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    found = with_gradient(head)
    assert {name for name in found if "lora_" not in name} == {
        name for name, _ in head.named_parameters() if name.startswith("memory.")
    }
    assert sum("lora_" in name for name in found) == 8  # two matrices for two projections of two layers
    assert head.eval().generate(features(1), [[""]], max_new_tokens=4)


@pytest.mark.parametrize("train", ["full", "lora"])
def test_a_checkpoint_alone_gives_the_same_text(folder, train):
    lora = dict(r=2, init_lora_weights=False, target_modules="all-linear") if train == "lora" else None
    head, encoded = loud(prefix_head(folder, train=train, lora=lora)), features(3)
    expected = head.generate(encoded, [[""], ["Any effusion?"], [""]], max_new_tokens=20)
    buffer = io.BytesIO()
    torch.save(head.state_dict(), buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    shutil.rmtree(folder)
    with use_pretrained_files(state):
        fresh = prefix_head(folder, train=train, lora=lora)
    fresh.load_state_dict(state)
    assert fresh.eval().generate(encoded, [[""], ["Any effusion?"], [""]], max_new_tokens=20) == expected


def test_errors_name_the_source(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CTVLMError, match=r"empty'.*tokenizer\.json"):
        prefix_head(tmp_path / "empty")
    with pytest.raises(ValueError, match="train='frozen'"):
        prefix_head(folder, lora=dict(r=4))


def test_masked_patches_are_left_out_of_the_average():
    encoded = features(2)
    memory = VisualMemory(24, 8, num_regions=5, patch_grid=(1, 1, 1))
    found, mask = memory(encoded)
    weight = encoded.token_mask[..., None].float()
    mean = (encoded.tokens * weight).sum(dim=1) / weight.sum(dim=1)
    share = (encoded.patch_to_region[..., 1:] * weight).sum(dim=1) / weight.sum(dim=1)
    torch.testing.assert_close(found[:, -1], memory.project["patch"](mean) + share @ memory.names)
    assert found.shape == (2, 1 + 5 + 1, 8) and mask[:, -1].all()
