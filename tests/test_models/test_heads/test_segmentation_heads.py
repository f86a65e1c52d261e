"""Predicted regions: targets against loops, gradients, maps in the right place and orientation."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ctvlm.models.backbones import ThreeDVisionEncoder
from ctvlm.models.heads import RegionLogitsHead, SegmentationHead, VoxelSegmentationHead
from ctvlm.models.heads.region_map import region_map_of
from ctvlm.models.region_encoders import patch_overlap
from ctvlm.structures import Anatomy, CTDataSample
from ctvlm.volume.windows import apply_windows
from tests.test_models.component_cases import REGIONS, WIDTH, random_output

WINDOWS = ("lung", "soft_tissue", "bone")
PATCH = (2, 4, 4)


class Seen(nn.Module):
    """In a loss's place: keeps what it is given."""

    def forward(self, logits_BNR1, target_BNR1, mask_BN):
        self.target, self.mask = target_BNR1, mask_BN
        return torch.stack([logits_BNR1.sum(), mask_BN.sum().float()])


def encoder(**kwargs):
    torch.manual_seed(0)
    sizes = dict(embed_dims=WIDTH, depth=2, num_regions=REGIONS)
    sizes |= dict(patch_embed=dict(patch_size=PATCH), block=dict(num_heads=2))
    return ThreeDVisionEncoder(region_encoder=dict(type="LearnedRegionEncoder"), **sizes, **kwargs)


def random_case(batch=2, size=(4, 12, 8), low=0):
    torch.manual_seed(1)
    return torch.randn(batch, 1, *size) * 300, torch.randint(low, REGIONS + 1, (batch, *size))


def anatomy_of(region_map, grid):
    return Anatomy(*patch_overlap(region_map, grid, REGIONS))


@pytest.mark.parametrize(("coarse", "size"), [((3, 2, 5), (7, 9, 11)), ((1, 1, 1), (3, 4, 5)), ((5, 4, 4), (5, 16, 8))])
def test_region_map_equals_trilinear_interpolation_of_all_logits(coarse, size):
    logits = torch.randn(4, *coarse, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(logits[None], size, mode="trilinear", align_corners=False)[0].argmax(dim=0)
    predicted = region_map_of(logits, size)
    assert predicted.dtype == torch.uint8
    assert (predicted == whole).float().mean() > 0.999  # ties may fall either way


@pytest.mark.parametrize("grid", [(1, 1, 1), (2, 3, 1), (3, 1, 5)])
@pytest.mark.parametrize("scale", [(1, 1, 1), (2, 2, 4), (2, 4, 4)])
def test_voxel_logits_and_map_have_the_right_sizes(grid, scale):
    torch.manual_seed(0)
    head = VoxelSegmentationHead(WIDTH, REGIONS, pyramid=dict(type="FeaturePyramid3D", scales=(scale,)))
    hu = torch.randn(2, 1, *(g * p for g, p in zip(grid, PATCH))) * 300
    encoded = random_output(2, grid)
    assert head(encoded, hu).shape == (2, REGIONS + 1, *(g * s for g, s in zip(grid, scale)))
    samples = [CTDataSample(), CTDataSample()]
    head.predict(encoded, dict(volume=hu), samples)
    assert all(sample.pred_region_map.shape == hu.shape[2:] for sample in samples)


def test_voxel_targets_are_the_shares_of_each_cell():
    hu, region_map = random_case(low=-1)
    head = VoxelSegmentationHead(WIDTH, REGIONS, pyramid=dict(type="FeaturePyramid3D", scales=((1, 2, 2),)))
    head.loss = Seen()
    encoded = encoder()(apply_windows(hu[:, 0], WINDOWS))
    head.terms(encoded, None, dict(volume=hu, region_map=region_map), [])
    cells = region_map.unfold(1, 2, 2).unfold(2, 2, 2).unfold(3, 2, 2).flatten(1, 3).flatten(2)
    assert head.loss.mask.all()
    for b in range(2):
        for n in range(cells.shape[1]):
            known = cells[b, n][cells[b, n] >= 0]
            for r in range(REGIONS + 1):
                assert head.loss.target[b, n, r] == pytest.approx(int((known == r).sum()) / len(known))


def test_patch_loss_leaves_out_dropped_patches_and_unknown_ones():
    head = SegmentationHead(WIDTH, REGIONS)
    head.loss = Seen()
    encoded = random_output(2, (2, 3, 2))
    _, region_map = random_case(size=(4, 12, 8))
    region_map[1] = -1
    head.terms(encoded, anatomy_of(region_map, encoded.grid), {}, [])
    assert torch.equal(head.loss.mask[0], encoded.token_mask[0])
    assert not head.loss.mask[1].any()


@pytest.mark.parametrize("dropped", [False, True])
def test_gradient_reaches_the_encoders_own_prediction(dropped):
    hu, region_map = random_case()
    model, head = encoder().train(), RegionLogitsHead()
    shown = torch.full_like(region_map, -1) if dropped else region_map
    encoded = model(apply_windows(hu[:, 0], WINDOWS), shown)
    head.terms(encoded, anatomy_of(region_map, encoded.grid), {}, [])[0].backward()
    assert model.region_encoder.classify.weight.grad.abs().sum() > 0
    assert model.patch_embed.proj.weight.grad.abs().sum() > 0


def test_without_any_map_every_parameter_still_takes_part():
    hu, _ = random_case()
    model = encoder().train()
    encoded = model(apply_windows(hu[:, 0], WINDOWS))
    for head in (RegionLogitsHead(), SegmentationHead(WIDTH, REGIONS), VoxelSegmentationHead(WIDTH, REGIONS)):
        terms = head.terms(encoded, None, dict(volume=hu, region_map=None), [])
        assert terms.tolist() == [0.0, 0.0]
        terms[0].backward(retain_graph=True)
        assert all(p.grad is not None for p in head.classify.parameters()) if hasattr(head, "classify") else True
    assert model.region_encoder.classify.weight.grad is not None


def test_region_logits_head_refuses_an_encoder_without_logits():
    encoded = random_output(1, (1, 1, 1))
    encoded.region_logits = None
    with pytest.raises(ValueError, match="LearnedRegionEncoder"):
        RegionLogitsHead()(encoded)


BLOCKS = {
    "left": (slice(None), slice(None), slice(8, None)), "right": (slice(None), slice(None), slice(0, 8)),
    "back": (slice(None), slice(0, 8), slice(None)), "front": (slice(None), slice(8, None), slice(None)),
    "feet": (slice(0, 4), slice(None), slice(None)), "head": (slice(4, None), slice(None), slice(None)),
}  # fmt: skip


def blocks():
    """One case a block: a bright half is region 1, whatever half it is."""
    hu, region_map = torch.full((6, 1, 8, 16, 16), -700.0), torch.zeros(6, 8, 16, 16, dtype=torch.long)
    for i, block in enumerate(BLOCKS.values()):
        hu[i, 0][block] = 60.0
        region_map[i][block] = 1
    return hu, region_map


@pytest.mark.parametrize("kind", ["patch", "voxel", "encoder"])
def test_predicted_map_lies_where_the_region_is(kind):
    hu, region_map = blocks()
    model = encoder().train()
    head = dict(
        patch=lambda: SegmentationHead(WIDTH, REGIONS),
        voxel=lambda: VoxelSegmentationHead(
            WIDTH, REGIONS, dims=8, pyramid=dict(type="FeaturePyramid3D", scales=((1, 2, 2),))
        ),
        encoder=RegionLogitsHead,
    )[kind]()
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    inputs = dict(volume=hu, region_map=region_map)
    for _ in range(25):
        encoded = model(apply_windows(hu[:, 0], WINDOWS))
        total, count = head.terms(encoded, anatomy_of(region_map, encoded.grid), inputs, [])
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
    samples = [CTDataSample() for _ in BLOCKS]
    head.predict(encoded, inputs, samples)
    for name, sample, truth in zip(BLOCKS, samples, region_map):
        assert (sample.pred_region_map == truth).float().mean() > 0.95, name
