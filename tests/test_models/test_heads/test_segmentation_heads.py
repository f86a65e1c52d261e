"""Predicted regions: targets against loops, gradients, maps in the right place and orientation."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ctvlm.models.backbones import ThreeDVisionEncoder
from ctvlm.models.heads import RegionLogitsHead
from ctvlm.models.heads.region_map import region_map_of
from ctvlm.models.objectives import SegmentationObjective
from ctvlm.structures import CTDataSample
from ctvlm.volume.windows import apply_windows
from tests.test_models.component_cases import REGIONS, WIDTH, random_output
from tests.test_models.test_objectives.contexts import context

WINDOWS = ("lung", "soft_tissue", "bone")
PATCH = (2, 4, 4)


class Recorded(nn.Module):
    """A loss that keeps its arguments."""

    def terms(self, logits_BNR1, target_BNR1, mask_BN):
        self.target, self.mask = target_BNR1, mask_BN
        return torch.stack([logits_BNR1.sum(), mask_BN.sum().float()])


def objective(kind, **head):
    return SegmentationObjective(head=dict(type=kind, **head), vision_dims=WIDTH)


def encoder(**kwargs):
    torch.manual_seed(0)
    sizes = dict(embed_dims=WIDTH, depth=2, num_regions=REGIONS)
    sizes |= dict(patch_embed=dict(patch_size=PATCH), block=dict(num_heads=2))
    return ThreeDVisionEncoder(region_encoder=dict(type="LearnedRegionEncoder"), **sizes, **kwargs)


def pyramid(scale):
    return dict(type="FeaturePyramid3D", scales=(scale,))


def random_case(batch=2, size=(4, 12, 8), low=0):
    torch.manual_seed(1)
    return torch.randn(batch, 1, *size) * 300, torch.randint(low, REGIONS + 1, (batch, *size))


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
    voxels = objective("VoxelSegmentationHead", num_regions=REGIONS, pyramid=pyramid(scale))
    hu = torch.randn(2, 1, *(g * p for g, p in zip(grid, PATCH))) * 300
    encoded = random_output(2, grid)
    assert voxels.head(encoded, hu).shape == (2, REGIONS + 1, *(g * s for g, s in zip(grid, scale)))
    samples = [CTDataSample(), CTDataSample()]
    voxels.predict(context(encoded, samples, volume=hu), voxels.needs)
    assert all(sample.pred_region_map.shape == hu.shape[2:] for sample in samples)


def test_voxel_targets_are_the_shares_of_each_cell():
    hu, region_map = random_case(low=-1)
    voxels = objective("VoxelSegmentationHead", num_regions=REGIONS, pyramid=pyramid((1, 2, 2)))
    voxels.criterion = Recorded()
    encoded = encoder()(apply_windows(hu[:, 0], WINDOWS))
    voxels.features(context(encoded, volume=hu, region_map=region_map))
    cells = region_map.unfold(1, 2, 2).unfold(2, 2, 2).unfold(3, 2, 2).flatten(1, 3).flatten(2)
    assert voxels.criterion.mask.all()
    for b in range(2):
        for n in range(cells.shape[1]):
            known = cells[b, n][cells[b, n] >= 0]
            for r in range(REGIONS + 1):
                assert voxels.criterion.target[b, n, r] == pytest.approx(int((known == r).sum()) / len(known))


def test_patch_loss_ignores_dropped_and_unknown_patches():
    patches = objective("SegmentationHead", num_regions=REGIONS)
    patches.criterion = Recorded()
    encoded = random_output(2, (2, 3, 2))
    _, region_map = random_case(size=(4, 12, 8))
    region_map[1] = -1
    patches.features(context(encoded, region_map=region_map))
    assert torch.equal(patches.criterion.mask[0], encoded.token_mask[0])
    assert not patches.criterion.mask[1].any()


@pytest.mark.parametrize("dropped", [False, True])
def test_gradient_reaches_the_prediction_of_the_encoder(dropped):
    hu, region_map = random_case()
    model, logits = encoder().train(), objective("RegionLogitsHead")
    encoded = model(apply_windows(hu[:, 0], WINDOWS), torch.full_like(region_map, -1) if dropped else region_map)
    logits.loss(logits.features(context(encoded, region_map=region_map))).backward()
    assert model.region_encoder.classify.weight.grad.abs().sum() > 0
    assert model.patch_embed.proj.weight.grad.abs().sum() > 0


def test_without_any_map_every_parameter_has_a_gradient():
    hu, _ = random_case()
    model = encoder().train()
    encoded = model(apply_windows(hu[:, 0], WINDOWS))
    for kind in ("RegionLogitsHead", "SegmentationHead", "VoxelSegmentationHead"):
        options = {} if kind == "RegionLogitsHead" else dict(num_regions=REGIONS)
        regions = objective(kind, **options)
        terms = regions.features(context(encoded, volume=hu))
        assert terms.sum_and_count_2.tolist() == [0.0, 0.0]
        regions.loss(terms).backward(retain_graph=True)
        assert all(p.grad is not None for p in regions.parameters())
    assert model.region_encoder.classify.weight.grad is not None


def test_region_logits_head_refuses_an_encoder_without_logits():
    encoded = random_output(1, (1, 1, 1))
    encoded.region_logits = None
    with pytest.raises(ValueError, match="LearnedRegionEncoder"):
        RegionLogitsHead()(encoded, None)


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
    regions = dict(
        patch=lambda: objective("SegmentationHead", num_regions=REGIONS),
        voxel=lambda: objective("VoxelSegmentationHead", num_regions=REGIONS, dims=8, pyramid=pyramid((1, 2, 2))),
        encoder=lambda: objective("RegionLogitsHead"),
    )[kind]()
    optimizer = torch.optim.AdamW([*model.parameters(), *regions.parameters()], lr=1e-2)
    samples = [CTDataSample() for _ in BLOCKS]
    for _ in range(25):
        views = context(model(apply_windows(hu[:, 0], WINDOWS)), samples, volume=hu, region_map=region_map)
        optimizer.zero_grad()
        regions.loss(regions.features(views)).backward()
        optimizer.step()
    with torch.no_grad():
        regions.predict(views, regions.needs)
    for name, sample, truth in zip(BLOCKS, samples, region_map):
        assert (sample.pred_region_map == truth).float().mean() > 0.95, name
