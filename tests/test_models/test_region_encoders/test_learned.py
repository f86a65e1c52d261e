"""Predicted assignment: presence of regions, and volumes without a map."""

import pytest
import torch

from ctvlm.models.backbones import ThreeDVisionEncoder
from ctvlm.models.region_encoders import LearnedRegionEncoder, SoftOverlapRegionEncoder
from ctvlm.structures import TokenContext
from tests.test_models.component_cases import REGIONS, WIDTH, body_volume

GRID, SIZE = (2, 3, 2), (4, 12, 8)


def learned(**kwargs):
    torch.manual_seed(0)
    return LearnedRegionEncoder(WIDTH, REGIONS, **kwargs).eval()


def tokens(batch=2):
    return torch.randn(batch, 12, WIDTH, generator=torch.Generator().manual_seed(0))


def context(batch=2):
    return TokenContext.full(batch, GRID, torch.ones(batch, 3))


def corner_map(region):
    """One region in one corner of each case."""
    region_map = torch.zeros(2, *SIZE, dtype=torch.long)
    region_map[:, :2, :4, :4] = region
    return region_map


def test_with_a_map_presence_equals_that_of_exact_overlap():
    presence = learned().assign(tokens(), corner_map(3), context()).presence
    assert presence.tolist() == [[False, False, True, False, False]] * 2


def test_small_shares_of_many_patches_do_not_make_a_region_present():
    """Every region sums to more than a twentieth of a patch, but has no twentieth of any patch."""
    encoder = learned()
    encoder.classify.bias.data[0] = 4.0
    encoding = encoder.assign(tokens(), None, context())
    assert (encoding.assignment[..., 1:].sum(dim=1) > 0.05).all()
    assert not encoding.presence.any()


def test_one_certain_patch_makes_a_region_present():
    encoder = learned()
    encoder.classify.bias.data[0] = 4.0
    x = tokens()
    with torch.no_grad():
        encoder.classify.weight[2] = 10 * encoder.norm(x)[1, 5]
    assert encoder.assign(x, None, context()).presence[1].tolist() == [False, True, False, False, False]


def test_a_dropped_map_equals_no_map_and_does_not_affect_other_cases():
    encoder = learned()
    region_map = corner_map(3)
    region_map[1] = -1
    mixed, bare = encoder.assign(tokens(), region_map, context()), encoder.assign(tokens(), None, context())
    torch.testing.assert_close(mixed.assignment[1], bare.assignment[1])
    assert torch.equal(mixed.presence[1], bare.presence[1])
    exact = SoftOverlapRegionEncoder(WIDTH, REGIONS).assign(tokens(), corner_map(3), context())
    torch.testing.assert_close(mixed.assignment[0], exact.assignment[0])


def test_maps_change_nothing_in_evaluation_without_use_map_at_eval():
    encoder = learned(use_map_at_eval=False)
    with_map, bare = encoder.assign(tokens(), corner_map(3), context()), encoder.assign(tokens(), None, context())
    torch.testing.assert_close(with_map.assignment, bare.assignment)
    assert torch.equal(with_map.presence, bare.presence)


@pytest.mark.parametrize("token_selection", ["none", "body"])
def test_a_volume_without_map_has_tokens_of_the_predicted_regions(token_selection):
    torch.manual_seed(0)
    sizes = dict(embed_dims=WIDTH, depth=2, num_regions=REGIONS)
    sizes |= dict(patch_embed=dict(patch_size=(2, 4, 4)), block=dict(num_heads=2))
    encoder = ThreeDVisionEncoder(
        region_encoder=dict(type="LearnedRegionEncoder"), token_selection=token_selection, **sizes
    ).eval()
    encoder.region_encoder.classify.bias.data[:] = torch.tensor([1.0, 2.0, -9.0, 1.5, -9.0, -9.0])
    out = encoder(body_volume(2, SIZE))
    assert out.region_mask.tolist() == [[True, False, True, False, False]] * 2
    assert torch.equal(out.region_tokens.abs().sum(dim=-1) > 0, out.region_mask)
