"""Embedding, positions and token context."""

import pytest
import torch

from ctvlm.models.layers import (
    HierarchicalPatchEmbedding,
    LearnedPosition3D,
    RotaryPosition3D,
    SinCosPosition3D,
    ThreeDPatchEmbedding,
    apply_rotary,
)
from ctvlm.structures import TokenContext
from tests.test_models.component_cases import random_context


def test_embedding_equals_a_linear_map_of_each_patch():
    torch.manual_seed(0)
    embed = ThreeDPatchEmbedding(2, 5, (2, 3, 4)).double()
    volume = torch.randn(1, 2, 4, 3, 8, dtype=torch.float64)
    tokens = embed(volume)
    n = 0
    for z in range(2):
        for x in range(2):
            patch = volume[0, :, 2 * z : 2 * z + 2, :, 4 * x : 4 * x + 4]
            wanted = (embed.proj.weight * patch).flatten(1).sum(dim=1) + embed.proj.bias
            torch.testing.assert_close(tokens[0, n], wanted)
            n += 1


def test_an_invalid_size_is_an_error_with_the_nearest_valid_sizes():
    message = r"\(10, 30, 33\).*\(4, 16, 16\).*\(8, 16, 32\) and \(12, 32, 48\)"
    with pytest.raises(ValueError, match=message):
        ThreeDPatchEmbedding(1, 6)(torch.zeros(1, 1, 10, 30, 33))


def test_sincos_codes_of_the_spec_grid_are_distinct():
    code_NE = SinCosPosition3D(768)((4, 32, 32), torch.zeros(()))
    assert code_NE.shape == (4096, 768)
    assert torch.unique(code_NE, dim=0).shape[0] == 4096


def test_sincos_of_a_cell_does_not_depend_on_the_grid():
    position, like = SinCosPosition3D(20), torch.zeros(())
    small = position((2, 2, 2), like).view(2, 2, 2, 20)
    large = position((3, 5, 4), like).view(3, 5, 4, 20)
    torch.testing.assert_close(large[:2, :2, :2], small)
    assert not small[..., 18:].any()


def test_learned_interpolation_keeps_the_mean_direction():
    position = LearnedPosition3D(4, (2, 2, 2))
    ramp = torch.linspace(0, 1, 2).view(1, 1, 2, 1, 1).expand(1, 4, 2, 2, 2)
    position.table.data.copy_(ramp)
    along_z = position((8, 2, 2), ramp).view(8, 4, 4)[:, 0, 0]
    assert (along_z.diff() >= 0).all()


def rotary_context(offset=0.0, spacing=1.0):
    ctx = TokenContext.full(1, (2, 2, 2), torch.full((1, 3), spacing, dtype=torch.float64))
    shifted = ctx.positions_BN3 + offset

    class Moved:
        positions_BN3 = shifted

    return Moved


def test_rotary_scores_depend_on_distance_in_mm_only():
    torch.manual_seed(0)
    rotary = RotaryPosition3D(16).double()
    q, k = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64).expand(2, 1, 1, 8, 16)

    def scores(ctx):
        turn = rotary(ctx)
        return apply_rotary(q, turn) @ apply_rotary(k, turn).transpose(-1, -2)

    here, moved = scores(rotary_context()), scores(rotary_context(offset=37.0))
    torch.testing.assert_close(here, moved, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(here, scores(rotary_context(spacing=4.0)), atol=1e-3)


def test_rotary_keeps_lengths():
    x = torch.randn(1, 2, 8, 16)
    turned = apply_rotary(x, RotaryPosition3D(16)(rotary_context()))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


def test_context_scatter_undoes_gather_and_fills_the_rest():
    torch.manual_seed(0)
    ctx = random_context(3, (3, 2, 2), padded=True)
    full = torch.randn(3, 12, 4)
    fill = torch.tensor([9.0, 8.0, 7.0, 6.0])
    back = ctx.scatter(ctx.gather(full), fill)
    mask = ctx.full_mask()
    assert torch.equal(mask.sum(dim=1), ctx.token_mask_BN.sum(dim=1))
    assert torch.equal(back[mask], full[mask])
    assert (back[~mask] == fill).all()


def test_context_computes_positions():
    ctx = TokenContext.full(1, (2, 3, 4), torch.tensor([[8.0, 16.0, 4.0]]))
    assert ctx.zyx_BN3[0, 1 * 12 + 2 * 4 + 3].tolist() == [1, 2, 3]
    assert ctx.positions_BN3[0, 23].tolist() == [12.0, 40.0, 14.0]
    assert ctx.z_BN[0].tolist() == [0] * 12 + [1] * 12


def test_a_norm_of_cells_hides_their_level():
    torch.manual_seed(0)
    levels = torch.tensor([0.2, 0.9]).view(2, 1, 1, 1, 1).expand(2, 1, 2, 4, 4)
    for norm in (True, False):
        embed = HierarchicalPatchEmbedding(1, 8, (2, 4, 4), merges=((1, 2, 2), (2, 2, 2)), widths=(6,), norm=norm)
        low, high = embed(levels).detach()
        assert torch.allclose(low, high, atol=1e-2) == norm
