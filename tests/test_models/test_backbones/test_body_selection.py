"""Dropping air outside the body: what is dropped, and that nothing else changes."""

import pytest
import torch

from ctvlm.models.backbones import ThreeDVisionEncoder, body_patches
from ctvlm.models.backbones.body_selection import keep_tokens, kept_index
from ctvlm.structures import TokenContext

PATCH = (2, 2, 2)
SMALL = dict(
    img_size=(4, 16, 16),
    embed_dims=24,
    depth=2,
    num_regions=5,
    patch_embed=dict(patch_size=PATCH),
    block=dict(num_heads=2),
)


def voxels(grid_Bdhw):
    """A channel whose patches are tissue where the grid is 1."""
    for axis, size in enumerate(PATCH):
        grid_Bdhw = grid_Bdhw.repeat_interleave(size, dim=axis + 1)
    return grid_Bdhw.float()


def keep(rows):
    grid = torch.tensor([[[int(c) for c in row] for row in rows]])[None]
    return body_patches(voxels(grid), tuple(grid.shape[1:])).view(grid.shape[2:]).int().tolist()


def test_enclosed_air_stays_and_outer_air_goes():
    rows = ["0000000", "0111110", "0100010", "0111110", "0000000"]
    assert keep(rows) == [[0] * 7, *[[0, 1, 1, 1, 1, 1, 0]] * 3, [0] * 7]


def test_the_fill_follows_a_winding_path():
    rows = ["1111111", "0000001", "1111101", "1000001", "1011111", "1000000", "1111111"]
    assert keep(rows) == [[int(c) for c in row] for row in rows]


def test_air_is_not_connected_over_corners():
    rows = ["0111", "1011", "1111", "1111"]
    kept = keep(rows)
    assert kept[0][0] == 0
    assert kept[1][1] == 1


def test_slices_are_filled_apart():
    """A lung that is open at the volume's end, and outside air beside it in the next slice."""
    lung, outside = ["111", "101", "111"], ["111", "101", "101"]
    grid = torch.tensor([[[[int(c) for c in row] for row in s] for s in (lung, outside)]])
    kept = body_patches(voxels(grid), (2, 3, 3)).view(2, 3, 3)
    assert kept[0].all()
    assert not kept[1, 1, 1]


def test_one_bright_voxel_keeps_its_patch():
    channel = torch.zeros(1, 2, 6, 6)
    channel[0, 1, 0, 5] = 1e-3
    assert body_patches(channel, (1, 3, 3)).nonzero().tolist() == [[0, 2]]


def test_a_case_of_air_keeps_everything():
    assert body_patches(torch.zeros(2, 2, 4, 4), (1, 2, 2)).all()


def test_index_keeps_grid_order_and_masks_padding():
    keep_BN = torch.tensor([[0, 1, 0, 1, 1], [1, 0, 0, 0, 0]]).bool()
    index, mask = kept_index(keep_BN)
    assert index[0].tolist() == [1, 3, 4]
    assert mask.tolist() == [[True, True, True], [True, False, False]]
    assert index[1, 0] == 0
    assert all(len(set(row)) == len(row) for row in index.tolist())


@pytest.mark.parametrize(("counts", "masked"), [((3,), False), ((2, 2), False), ((3, 2), True), ((5, 5), False)])
def test_without_padding_there_is_no_mask(counts, masked):
    """Attention without a mask is cheaper."""
    keep_BN = torch.arange(5) >= 5 - torch.tensor(counts)[:, None]
    ctx = keep_tokens(TokenContext.full(len(counts), (1, 1, 5), torch.ones(len(counts), 3)), keep_BN)
    assert (ctx.token_mask_BN is not None) is masked
    assert torch.equal(ctx.full_mask(), keep_BN)
    rows_Tx = ctx.gather_kept(torch.arange(5.0).expand(len(counts), 5)[..., None])
    assert rows_Tx[:, 0].tolist() == [n for count in counts for n in range(5 - count, 5)]
    assert ctx.pad(rows_Tx).shape == (len(counts), max(counts), 1)


def ragged_batch():
    """Three bodies of unlike sizes."""
    volume = torch.zeros(3, 3, 4, 16, 16)
    for b, half in enumerate((2, 4, 6)):
        volume[b, :, :, 8 - half : 8 + half, 8 - half : 8 + half] = torch.rand(3, 4, 2 * half, 2 * half) + 0.1
    return volume, torch.randint(0, 6, (3, 4, 16, 16))


@pytest.mark.parametrize("position", ["sincos", "learned", "rotary"])
@pytest.mark.parametrize("attention", ["SliceAwareAttention", "SliceWindowAttention", "AxialAttention"])
def test_equals_full_computation_on_the_kept_tokens(attention, position):
    """The reference runs all patches and masks the dropped ones as keys; output and gradients agree."""
    settings = dict(SMALL, position=position, block=dict(num_heads=2, attention=dict(type=attention)))
    torch.manual_seed(0)
    chosen = ThreeDVisionEncoder(token_selection="body", **settings).double()
    full = ThreeDVisionEncoder(**settings).double()
    full.load_state_dict(chosen.state_dict())
    volume, region_map = ragged_batch()
    volume = volume.double()
    keep_BN = body_patches(volume[:, 1], (2, 8, 8))

    def masked_context(volume_BCDHW, spacing_B3, window):
        every = TokenContext.full(3, (2, 8, 8), full.token_spacing(volume_BCDHW, spacing_B3, (2, 8, 8)))
        return TokenContext(every.grid, every.index_BN, keep_BN, every.spacing_B3)

    full.token_context = masked_context
    spacing = torch.tensor([[1.5, 0.8, 0.8], [3.0, 1.0, 1.0], [5.0, 0.7, 0.7]])
    outputs = [model(volume, region_map, spacing) for model in (chosen, full)]
    assert torch.equal(outputs[0].token_mask, keep_BN)
    assert keep_BN.sum(dim=1).unique().numel() == 3
    for name in ("tokens", "region_tokens", "patch_to_region", "positions"):
        torch.testing.assert_close(*(getattr(out, name) for out in outputs), msg=name)
    for out in outputs:
        (out.tokens.square().sum() + out.region_tokens.square().sum()).backward()
    for (name, a), b in zip(chosen.named_parameters(), full.parameters()):
        torch.testing.assert_close(a.grad, b.grad, msg=lambda text, name=name: f"{name}: {text}")


def test_a_case_gives_the_same_numbers_in_any_company():
    torch.manual_seed(0)
    model = ThreeDVisionEncoder(**SMALL, token_selection="body").double().eval()
    volume, region_map = ragged_batch()
    together = model(volume.double(), region_map)
    for b in range(3):
        alone = model(volume[b : b + 1].double(), region_map[b : b + 1])
        torch.testing.assert_close(alone.tokens[0], together.tokens[b])
        torch.testing.assert_close(alone.region_tokens[0], together.region_tokens[b])


def test_dropped_patches_come_back_as_background():
    torch.manual_seed(0)
    model = ThreeDVisionEncoder(**SMALL, token_selection="body", region_encoder=dict(type="LearnedRegionEncoder"))
    out = model(*ragged_batch())
    dropped = ~out.token_mask
    assert dropped.any()
    assert not out.tokens[dropped].any()
    assert (out.patch_to_region[dropped][:, 0] == 1).all()
    assert (out.region_logits[dropped].softmax(dim=-1)[:, 0] > 1 - 1e-6).all()
