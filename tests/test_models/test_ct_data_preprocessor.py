import pytest
import torch

from ctvlm.registry import MODELS
from ctvlm.structures import CTDataSample


def batch(shapes, region_maps):
    samples = [CTDataSample(metainfo=dict(case_id=f"case{i}", spacing=(5.0, 1.0, 2.0))) for i in range(len(shapes))]
    volumes = [torch.full((1, *shape), -600, dtype=torch.int16) for shape in shapes]
    return dict(inputs=dict(volume=volumes, region_map=region_maps), data_samples=samples)


@pytest.fixture()
def preprocessor():
    return MODELS.build(dict(type="CTDataPreprocessor"))


def test_stacks_and_windows(preprocessor):
    region_map = torch.ones(4, 6, 8, dtype=torch.uint8)
    inputs = preprocessor(batch([(4, 6, 8)] * 2, [region_map, None]))["inputs"]
    assert inputs["volume"].shape == (2, 1, 4, 6, 8)
    assert inputs["volume"].dtype == torch.int16, "HU stay small until they are encoded"
    windowed = preprocessor.window(inputs["volume"])
    assert windowed.shape == (2, 3, 4, 6, 8)
    assert torch.all(windowed[:, 0] == 0.5)
    assert inputs["region_map"].shape == (2, 4, 6, 8)
    assert inputs["region_map"][0].min() == 1
    assert (inputs["region_map"][1] == -1).all(), "a case without a map is unknown, not background"
    assert inputs["spacing"].tolist() == [[5.0, 1.0, 2.0]] * 2


def test_no_map_in_the_whole_batch_is_none(preprocessor):
    assert preprocessor(batch([(4, 6, 8)] * 2, [None, None]))["inputs"]["region_map"] is None


def test_unequal_shapes_are_named(preprocessor):
    with pytest.raises(ValueError, match=r"case0: \(1, 4, 6, 8\), case1: \(1, 4, 6, 9\).*ResampleCT"):
        preprocessor(batch([(4, 6, 8), (4, 6, 9)], [None, None]))


def test_a_region_that_the_encoder_does_not_have_is_named_with_its_case(preprocessor):
    preprocessor.num_regions = 3
    region_map = torch.zeros(4, 6, 8, dtype=torch.uint8)
    region_map[0, 0, 0] = 4
    with pytest.raises(ValueError, match="case case1 contains id 4, but the encoder has num_regions = 3"):
        preprocessor(batch([(4, 6, 8)] * 2, [None, region_map]))
