"""Exact overlap, compared with a loop."""

import pytest
import torch

from ctvlm.models.region_encoders import (
    LearnedRegionEncoder,
    NullRegionEncoder,
    SoftOverlapRegionEncoder,
    overlap as overlap_module,
    patch_overlap,
    pool_by_assignment,
)
from ctvlm.registry import REGION_ENCODERS
from ctvlm.structures import Anatomy, TokenContext

GRID, PATCH, REGIONS = (2, 1, 3), (2, 3, 2), 4
SIZE = tuple(g * p for g, p in zip(GRID, PATCH))


def patches(volume_BDHW):
    """(b, n, voxels of patch n of case b), z-major."""
    for b, case in enumerate(volume_BDHW):
        n = 0
        for z in range(GRID[0]):
            for y in range(GRID[1]):
                for x in range(GRID[2]):
                    lo = (z * PATCH[0], y * PATCH[1], x * PATCH[2])
                    yield b, n, case[tuple(slice(i, i + p) for i, p in zip(lo, PATCH))]
                    n += 1


def random_map(batch=2, low=0):
    return torch.randint(low, REGIONS + 1, (batch, *SIZE), generator=torch.Generator().manual_seed(0))


def context(batch=2):
    return TokenContext.full(batch, GRID, torch.ones(batch, 3))


def test_shares_equal_counting_voxels():
    region_map = random_map()
    shares_BNR1, known_BN = patch_overlap(region_map, GRID, REGIONS)
    for b, n, voxels in patches(region_map):
        for r in range(REGIONS + 1):
            assert shares_BNR1[b, n, r] == pytest.approx(int((voxels == r).sum()) / voxels.numel())
    assert (known_BN == 1).all()


def test_unknown_voxels_do_not_count():
    region_map = random_map(low=-1)
    region_map[1] = -1
    shares_BNR1, known_BN = patch_overlap(region_map, GRID, REGIONS)
    for b, n, voxels in patches(region_map):
        known = voxels[voxels >= 0]
        assert known_BN[b, n] == pytest.approx(known.numel() / voxels.numel())
        wanted = [int((known == r).sum()) / max(known.numel(), 1) for r in range(REGIONS + 1)]
        if known.numel() == 0:
            wanted[0] = 1.0
        torch.testing.assert_close(shares_BNR1[b, n], torch.tensor(wanted))


def test_counting_without_a_wait_for_the_device_gives_the_same_counts():
    bins = torch.randint(0, 40, (3, 4, 5, 6), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
    assert torch.equal(overlap_module._count_on_device(bins, 50), overlap_module._count(bins, 50))


DTYPES = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("value", "unknown"), [(-2, True), (-1, False), (REGIONS, False), (REGIONS + 1, True)])
def test_ids_that_the_encoder_does_not_have_are_found_on_the_device(value, unknown, dtype):
    if value < 0 and dtype == torch.uint8:
        unknown = True  # 254 and 255
    region_map = random_map().to(dtype)
    region_map[0, 0, 0, 0] = torch.tensor(value).to(dtype)
    assert bool(overlap_module.has_unknown_id(region_map, REGIONS)) is unknown


@pytest.mark.parametrize("dtype", DTYPES)
def test_shares_are_the_same_on_the_device_and_in_a_graph(dtype, monkeypatch):
    region_map = random_map().to(dtype)
    expected = patch_overlap(region_map, GRID, REGIONS)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)  # reads no values, as on a device
    torch.testing.assert_close(patch_overlap(region_map, GRID, REGIONS), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_integer_types_give_the_same_shares(dtype):
    region_map = random_map()
    torch.testing.assert_close(
        patch_overlap(region_map.to(dtype), GRID, REGIONS), patch_overlap(region_map, GRID, REGIONS)
    )


@pytest.mark.parametrize("name", ["SoftOverlapRegionEncoder", "AnatomicalStructureEncoder", "LearnedRegionEncoder"])
def test_an_id_above_r_is_an_error(name):
    encoder = REGION_ENCODERS.build(dict(type=name, embed_dims=6, num_regions=REGIONS))
    region_map = random_map()
    region_map[1, 2, 1, 1] = 9
    with pytest.raises(ValueError, match=r"id 9.*num_regions = 4"):
        encoder(torch.randn(2, 6, 6), region_map, context())


def test_pooling_equals_a_loop():
    torch.manual_seed(0)
    tokens = torch.randn(2, 6, 5, dtype=torch.float64)
    assignment = torch.rand(2, 6, REGIONS, dtype=torch.float64)
    assignment[0, :, 1] = 0
    pooled = pool_by_assignment(tokens, assignment)
    for b in range(2):
        for r in range(REGIONS):
            total = sum(float(assignment[b, n, r]) for n in range(6))
            mean = sum(assignment[b, n, r] * tokens[b, n] for n in range(6)) / (total or 1.0)
            torch.testing.assert_close(pooled[b, r], mean)


def test_without_a_map_all_patches_are_background_and_region_tokens_are_embeddings():
    encoder = SoftOverlapRegionEncoder(6, REGIONS)
    encoding, tokens_BRE = encoder(torch.randn(2, 6, 6), None, context())
    assert (encoding.assignment[..., 0] == 1).all()
    assert not encoding.assignment[..., 1:].any()
    torch.testing.assert_close(tokens_BRE, encoder.region_embedding.expand(2, -1, -1))


def test_learned_uses_the_map_for_known_voxels_and_predicts_elsewhere():
    torch.manual_seed(0)
    encoder = LearnedRegionEncoder(6, REGIONS).eval()
    tokens, region_map = torch.randn(2, 6, 6), random_map()
    region_map[1] = -1
    bare = encoder.assign(tokens, None, context())
    torch.testing.assert_close(bare.assignment, bare.logits.softmax(dim=-1))
    mixed = encoder.assign(tokens, region_map, context())
    torch.testing.assert_close(mixed.assignment[0], patch_overlap(region_map, GRID, REGIONS)[0][0])
    torch.testing.assert_close(mixed.assignment[1], bare.assignment[1])
    torch.testing.assert_close(mixed.logits, bare.logits)


def test_map_weight_applies_in_training_only():
    torch.manual_seed(0)
    encoder = LearnedRegionEncoder(6, REGIONS, map_weight=0.25)
    tokens, region_map = torch.randn(2, 6, 6), random_map()
    shares = patch_overlap(region_map, GRID, REGIONS)[0]
    predicted = encoder.assign(tokens, None, context()).assignment
    torch.testing.assert_close(
        encoder.assign(tokens, region_map, context()).assignment, 0.25 * shares + 0.75 * predicted
    )
    torch.testing.assert_close(encoder.eval().assign(tokens, region_map, context()).assignment, shares)


def test_null_ignores_the_map():
    encoder = NullRegionEncoder(6, REGIONS)
    encoding, tokens_BRE = encoder(torch.randn(2, 6, 6), random_map(), context())
    assert (encoding.assignment[..., 0] == 1).all()
    assert not tokens_BRE.any()


def test_anatomy_of_another_grid_is_an_error():
    ctx = context().with_anatomy(Anatomy(torch.zeros(2, 5, REGIONS + 1), torch.zeros(2, 5)))
    with pytest.raises(ValueError, match=r"\(2, 5, 5\).*\(2, 6, 5\)"):
        SoftOverlapRegionEncoder(6, REGIONS).assign(torch.randn(2, 6, 6), random_map(), ctx)
