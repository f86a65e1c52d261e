"""Pooling against loops; the pyramid's shapes."""

import dataclasses

import pytest
import torch

from ctvlm.models.necks import FeaturePyramid3D, RegionPooling, VolumePooling
from tests.test_models.component_cases import random_output


def output():
    torch.manual_seed(0)
    out = random_output(2, (2, 3, 2), dtype=torch.float64)
    out.patch_to_region[0, :, 2] = 0
    return out


def test_region_pooling_equals_a_loop():
    out = output()
    pooled, mask = RegionPooling()(out)
    assert not mask[0, 1]
    for b in range(2):
        for r in range(5):
            share = out.patch_to_region[b, :, r + 1] * out.token_mask[b]
            total = float(share.sum())
            mean = sum(share[n] * out.tokens[b, n] for n in range(12)) / (total or 1.0)
            torch.testing.assert_close(pooled[b, r], mean)


def test_region_attention_equals_a_loop_and_starts_from_the_mean():
    out = output()
    neck = RegionPooling(24, "attention").double()
    pooled, _ = neck(out)
    for b in range(2):
        for r in (0, 2):
            score = neck.score(out.tokens[b])[:, 0].exp() * out.patch_to_region[b, :, r + 1] * out.token_mask[b]
            picked = (score[:, None] * out.tokens[b]).sum(dim=0) / score.sum()
            torch.testing.assert_close(pooled[b, r], out.region_tokens[b, r] + picked)
    torch.nn.init.zeros_(neck.score.weight)
    tokens = out.region_tokens * out.region_mask[..., None]
    torch.testing.assert_close(neck(out)[0], RegionPooling()(out)[0] + tokens)


@pytest.mark.parametrize(
    "neck", [VolumePooling(), VolumePooling(24, "attention", num_heads=2).double()], ids=lambda n: n.mode
)
def test_global_pooling_reads_only_patches_that_took_part(neck):
    out = output()
    noise = torch.where(out.token_mask[..., None], out.tokens, torch.randn_like(out.tokens))
    torch.testing.assert_close(neck(dataclasses.replace(out, tokens=noise)), neck(out))


def test_global_mean_equals_a_loop():
    out = output()
    pooled = VolumePooling()(out)
    for b in range(2):
        torch.testing.assert_close(pooled[b], out.tokens[b][out.token_mask[b]].mean(dim=0))


@pytest.mark.parametrize("neck", [VolumePooling(), RegionPooling()], ids=["global", "region"])
def test_pooling_is_blind_to_the_order_of_patches(neck):
    out = output()
    order = torch.randperm(12)
    moved = dataclasses.replace(
        out,
        tokens=out.tokens[:, order],
        token_mask=out.token_mask[:, order],
        patch_to_region=out.patch_to_region[:, order],
    )
    for a, b in zip(torch.utils._pytree.tree_leaves(neck(out)), torch.utils._pytree.tree_leaves(neck(moved))):
        torch.testing.assert_close(a, b)


def test_pyramid_has_one_map_per_scale():
    neck = FeaturePyramid3D(24, 8).double()
    out = output()
    shapes = [tuple(m.shape) for m in neck(out)]
    assert shapes == [(2, 8, 4, 12, 8), (2, 8, 2, 6, 4), (2, 8, 2, 3, 2), (2, 8, 1, 2, 1)]
    one = dataclasses.replace(out, levels=[])
    assert [tuple(m.shape) for m in neck(one)] == shapes


def test_pyramid_at_the_patch_grid_keeps_places():
    """One voxel of the finest level reaches only its neighbours in a map of the same grid."""
    neck = FeaturePyramid3D(24, 8, scales=((1, 1, 1),)).double()
    out = output()
    other = dataclasses.replace(out, levels=[level.clone() for level in out.levels])
    other.levels[0][0, 0] += torch.randn(24)
    change = (neck(other)[0] - neck(out)[0])[0].abs().sum(dim=0)
    assert (change[:2, :2] > 0).all()
    assert not change[:, 2].any()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: VolumePooling(mode="max"), "mode"),
        (lambda: RegionPooling(mode="max"), "mode"),
        (lambda: RegionPooling(mode="attention"), "in_dims"),
        (lambda: VolumePooling(mode="attention"), "in_dims"),
        (lambda: FeaturePyramid3D(24, scales=()), "scales"),
    ],
)
def test_refuses_settings_that_cannot_be(make, named):
    with pytest.raises(ValueError, match=named):
        make()


def test_patch_shares_are_the_weights_of_the_pooled_feature():
    torch.manual_seed(0)
    out = output()
    neck = VolumePooling(24, mode="attention", num_heads=1).double()
    values_BNE = neck.kv(out.tokens).chunk(2, dim=-1)[1]
    torch.testing.assert_close(neck.proj((neck.patch_shares(out)[:, None] @ values_BNE)[:, 0]), neck(out))
    torch.testing.assert_close((VolumePooling().patch_shares(out)[:, None] @ out.tokens)[:, 0], VolumePooling()(out))
    # What a region's token gets goes to that region's patches, so nothing is lost.
    with_regions = VolumePooling(24, mode="attention", num_heads=2, with_regions=True).double().patch_shares(out)
    torch.testing.assert_close(with_regions.sum(dim=1), torch.ones(2, dtype=torch.float64))
    assert not with_regions[~out.token_mask].any()
