"""Regions of voxels: points against a loop, maps in the right place and orientation."""

import pytest
import torch
import torch.nn.functional as F

from ctvlm.models.backbones import ThreeDVisionEncoder
from ctvlm.models.heads import PointSegmentationHead
from ctvlm.models.objectives import PointSegmentationObjective
from ctvlm.structures import CTDataSample
from ctvlm.volume.windows import apply_windows
from tests.test_models.component_cases import REGIONS, WIDTH, random_output
from tests.test_models.test_heads.test_segmentation_heads import BLOCKS, WINDOWS, blocks, encoder, pyramid
from tests.test_models.test_objectives.contexts import context

SPACING = torch.tensor([[4.0, 2.0, 2.0], [1.0, 1.0, 1.0]])


def head(**options):
    torch.manual_seed(0)
    return PointSegmentationHead(WIDTH, REGIONS, dims=8, pyramid=pyramid((1, 2, 2)), **options)


def objective(**options):
    config = dict(type="PointSegmentationHead", num_regions=REGIONS, dims=8, pyramid=pyramid((1, 2, 2)))
    return PointSegmentationObjective(head=config, vision_dims=WIDTH, **options)


def test_neighbourhood_equals_a_loop():
    hu = torch.randn(1, 1, 4, 5, 6) * 300
    z, y, x = 3, 0, 2
    around = head()._neighbourhood(hu, torch.tensor([[[z, y, x]]]))[0, 0].view(-1, len(WINDOWS))
    expected = []
    for step in (1, 3):
        for dz in (-1, 0, 1):
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    at = [min(max(i + step * d, 0), n - 1) for i, d, n in zip((z, y, x), (dz, dy, dx), (4, 5, 6))]
                    expected.append(hu[0, 0, at[0], at[1], at[2]])
    windowed = apply_windows(torch.stack(expected).view(1, 1, 1, -1), list(WINDOWS))[0, :, 0, 0].T
    assert torch.allclose(around, windowed)


def test_cell_features_of_all_voxels_equal_trilinear_interpolation():
    from ctvlm.models.heads.point_segmentation_head import _at_points

    cells, size = torch.randn(2, 3, 2, 3, 4), torch.Size((4, 9, 8))
    points = torch.arange(size.numel()).expand(2, -1)
    zyx = torch.stack(torch.unravel_index(points, size), dim=-1)
    whole = F.interpolate(cells, size, mode="trilinear", align_corners=False).flatten(2).transpose(1, 2)
    assert torch.allclose(_at_points(cells, zyx, size), whole, atol=1e-5)


def test_map_is_the_most_likely_region_of_each_point():
    module, encoded = head(), random_output(2, (2, 3, 2))
    hu = torch.randn(2, 1, 4, 12, 8) * 300
    points = torch.randperm(hu[0].numel())[:50].expand(2, -1)
    logits = module(module.cells(encoded, hu), hu, SPACING, points)
    labels = module.region_map(encoded, hu, SPACING).flatten(1).gather(1, points)
    assert torch.equal(labels, logits.argmax(dim=-1).to(torch.uint8))


def test_unknown_voxels_do_not_count_and_no_map_is_no_term():
    hu, encoded = torch.randn(2, 1, 4, 12, 8), random_output(2, (2, 3, 2))
    points = objective()
    region_map = torch.full((2, 4, 12, 8), -1)
    region_map[0, :2] = 1
    terms = points.features(context(encoded, volume=hu, region_map=region_map, spacing=SPACING))
    assert terms.sum_and_count_2[1] == 1
    terms = points.features(context(encoded, volume=hu, spacing=SPACING))
    assert terms.sum_and_count_2.tolist() == [0.0, 0.0]


def test_sample_has_the_number_of_points():
    hu = torch.zeros(3, 1, 4, 12, 8)
    assert objective(num_points=7)._sample(hu).shape == (3, 7)
    assert torch.equal(objective(num_points=384)._sample(hu)[0], torch.arange(384))
    with pytest.raises(ValueError, match="num_points = 0"):
        objective(num_points=0)


def test_predicted_map_is_where_the_region_is():
    hu, region_map = blocks()
    model: ThreeDVisionEncoder = encoder().train()
    points, spacing = objective(num_points=512), torch.ones(len(hu), 3)
    optimizer = torch.optim.AdamW([*model.parameters(), *points.parameters()], lr=1e-2)
    samples = [CTDataSample() for _ in BLOCKS]
    for _ in range(25):
        encoded = model(apply_windows(hu[:, 0], list(WINDOWS)))
        views = context(encoded, samples, volume=hu, region_map=region_map, spacing=spacing)
        optimizer.zero_grad()
        points.loss(points.features(views)).backward()
        optimizer.step()
    with torch.no_grad():
        points.predict(views, points.needs)
    for name, sample, truth in zip(BLOCKS, samples, region_map):
        assert (sample.pred_region_map == truth).float().mean() > 0.95, name
