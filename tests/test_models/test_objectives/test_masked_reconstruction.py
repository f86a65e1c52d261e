"""Masked reconstruction: what is masked, what the encoder reads, and the loss of a loop over patches."""

from __future__ import annotations

import copy

import pytest
import torch

from ctvlm.models.losses.functional import normalized_patches, patch_voxels
from ctvlm.registry import BACKBONES
from ctvlm.testing.objectives import random_batch, small_model

CONFIG = dict(type="MaskedReconstructionObjective", decoder=dict(patch_size=(2, 4, 4), embed_dims=16))
# Patch grid (2, 3, 2).
AIR = (0, 2, 4)


def batch(count=3):
    """Cases whose first three patches of the first column are air."""
    inputs, samples = random_batch(count)
    inputs["volume"][:, :, :2, :, :4] = -1000
    return inputs, samples


def test_patches_are_cut_and_normalised_as_by_a_loop():
    hu = torch.randn(2, 1, 4, 12, 8) * 2000
    voxels = patch_voxels(hu, (2, 4, 4))
    assert voxels.shape == (2, 12, 32)
    for n in range(12):
        z, y, x = n // 6 * 2, n // 2 % 3 * 4, n % 2 * 4
        patch = hu[1, 0, z : z + 2, y : y + 4, x : x + 4].flatten()
        assert torch.equal(voxels[1, n], patch)
        clipped = patch.clamp(-1000, 1000)
        expected = (clipped - clipped.mean()) / (clipped.std(correction=0) + 10)
        torch.testing.assert_close(normalized_patches(voxels[1, n][None])[0], expected)


def test_only_patches_of_the_body_are_masked():
    objective = small_model(CONFIG).objectives["checked"]
    body = torch.ones(3, 12, dtype=torch.bool)
    body[:, AIR] = False
    body[2] = torch.arange(12) == 5
    _, samples = batch()
    visible = objective.visible(body, samples)
    assert not (visible & ~body).any()
    assert visible.sum(dim=1).tolist() == [2, 2, 1]
    # In evaluation mode the mask depends on the case only, in training it is new each time.
    assert torch.equal(visible[1:], objective.visible(body[1:], samples[1:]))
    objective.train()
    assert any(not torch.equal(visible, objective.visible(body, samples)) for _ in range(5))


def test_loss_equals_a_loop_over_masked_patches_and_reads_visible_ones_only():
    model = small_model(CONFIG)
    inputs, samples = batch()
    seen = {}
    encode = model.encode

    def keep(inputs, anatomy=None, visible_BN=None):
        seen["visible"], seen["encoded"] = visible_BN, encode(inputs, anatomy, visible_BN)
        return seen["encoded"]

    model.encode = keep
    total, count = model.features(inputs, copy.deepcopy(samples))["checked"].sum_and_count_2.tolist()
    visible, encoded = seen["visible"], seen["encoded"]
    assert torch.equal(encoded.token_mask, visible) and visible.sum() == 6
    body = torch.ones(3, 12, dtype=torch.bool)
    body[:, AIR] = False
    decoder, losses = model.objectives["checked"].decoder, []
    for b in range(3):
        alone = copy.copy(encoded)
        alone.tokens, alone.token_mask = encoded.tokens[b : b + 1], encoded.token_mask[b : b + 1]
        masked = (body & ~visible)[b : b + 1]
        predicted = decoder(alone, body[b : b + 1], masked)
        target = normalized_patches(patch_voxels(inputs["volume"][b : b + 1], (2, 4, 4))[masked])
        losses += [(p - t).square().mean().item() for p, t in zip(predicted, target, strict=True)]
    assert count == len(losses) == 21
    assert total == pytest.approx(sum(losses), rel=1e-4)
    # Other content of masked patches changes nothing that the decoder reads.
    changed = inputs["volume"].clone()
    voxel = torch.nn.functional.interpolate(visible.view(3, 1, 2, 3, 2).float(), scale_factor=(2, 4, 4)) < 0.5
    changed[voxel] += 500
    torch.testing.assert_close(encode({**inputs, "volume": changed}, None, visible).tokens, encoded.tokens)


@pytest.mark.parametrize("position", ["sincos", "learned", "rotary"])
def test_encoder_reads_visible_patches_as_if_they_were_all(position):
    """With all patches visible, nothing changes; a hidden patch has no token."""
    torch.manual_seed(0)
    sizes = dict(img_size=(4, 12, 8), embed_dims=24, depth=2, num_regions=5, position=position)
    encoder = BACKBONES.build(
        dict(type="ThreeDVisionEncoder", patch_embed=dict(patch_size=(2, 4, 4)), block=dict(num_heads=2), **sizes)
    ).eval()
    volume, region_map = torch.rand(2, 3, 4, 12, 8), torch.randint(0, 6, (2, 4, 12, 8))
    every = torch.ones(2, 12, dtype=torch.bool)
    whole, same = (
        encoder(volume, region_map),
        encoder(volume, region_map, context=encoder.token_context(volume, visible_BN=every)),
    )
    torch.testing.assert_close(same.tokens, whole.tokens)
    some = torch.arange(12).expand(2, -1) < 5
    part = encoder(volume, region_map, context=encoder.token_context(volume, visible_BN=some))
    assert part.token_mask.sum(dim=1).tolist() == [5, 5] and not part.tokens[:, 5:].any()


def test_only_the_visible_patches_are_encoded_in_pretraining():
    """The encoder runs once if no other objective is trained, and twice next to objectives that read all patches."""
    for losses, expected in (({}, 1), (dict(volume=dict(type="CrossModalContrastiveLoss")), 2)):
        model = small_model(CONFIG)
        if losses:
            model.objectives["volume"] = small_model(dict(type="VolumeTextObjective")).objectives["checked"]
        calls = []
        model.backbone.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        model(*batch(), mode="loss")
        assert len(calls) == expected


def test_wrong_sizes_and_encoders_are_refused():
    with pytest.raises(ValueError, match=r"mask_ratio = 1.0; expected"):
        small_model(dict(type="MaskedReconstructionObjective", mask_ratio=1.0))
    model = small_model(dict(type="MaskedReconstructionObjective"))
    with pytest.raises(
        ValueError, match=r"patch_size = \(4, 16, 16\).*expected the patch_size of the backbone, \(2, 4, 4\)"
    ):
        model(*batch(), mode="loss")
