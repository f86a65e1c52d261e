"""Targets of steps, compared with a loop over steps and voxels."""

import pytest
import torch

from ctvlm.models.objectives.step_targets import lesion_shares, step_targets
from ctvlm.structures import Anatomy, CoTStep, CTDataSample, EncoderOutput

GRID = (2, 2, 2)


def encoded(token_mask):
    batch = len(token_mask)
    return EncoderOutput(torch.zeros(batch, 8, 4), token_mask, torch.zeros(batch, 8, 3), torch.zeros(batch, 5, 4),
                         torch.zeros(batch, 8, 6), GRID)  # fmt: skip


def sample(steps, lesion_map=None):
    out = CTDataSample(metainfo=dict(case_id="a"))
    out.steps = [CoTStep(text="t", regions=regions, lesion=lesion) for regions, lesion in steps]
    if lesion_map is not None:
        out.lesion_map = lesion_map
    return out


def cells(lesion_map, lesion):
    """Share of the lesion in each 2 x 2 x 3 patch."""
    return [
        float((lesion_map[z : z + 2, y : y + 2, x : x + 3] == lesion).float().mean())
        for z in (0, 2) for y in (0, 2) for x in (0, 3)
    ]  # fmt: skip


@pytest.mark.parametrize("with_map", [True, False])
def test_equals_a_loop(with_map):
    generator = torch.Generator().manual_seed(0)
    lesion_map = torch.randint(0, 4, (4, 4, 6), generator=generator, dtype=torch.uint8)
    lesion_map[lesion_map == 2] = 0  # a lesion that a crop removed
    samples = [
        sample([((1, 3), None), ((2,), 3), ((2,), 2), ((4,), 9), ((), None)], lesion_map),
        sample([((5,), 1), ((1, 1), None)]),
    ]
    shares = torch.rand(2, 8, 6, generator=generator)
    anatomy = Anatomy(shares / shares.sum(dim=-1, keepdim=True), torch.ones(2, 8)) if with_map else None
    mask = torch.rand(2, 8, generator=generator) > 0.3
    target = step_targets(encoded(mask), anatomy, samples, 5)

    def of_regions(case, regions):
        return torch.zeros(8) if anatomy is None else anatomy.shares_BNR1[case][:, list(set(regions))].sum(dim=1)

    expected = torch.zeros(2, 5, 8)
    expected[0, 0], expected[0, 1] = of_regions(0, (1, 3)), torch.tensor(cells(lesion_map, 3))
    expected[0, 3] = of_regions(0, (4,))
    expected[1, 0], expected[1, 1] = of_regions(1, (5,)), of_regions(1, (1,))
    expected = expected * mask[:, None]
    expected = expected / expected.sum(dim=-1, keepdim=True).clamp(min=1e-6)
    torch.testing.assert_close(target, expected)


def test_a_lesion_map_that_patches_do_not_divide_is_an_error():
    with pytest.raises(ValueError, match=r"\(4, 4, 5\).*\(2, 2, 2\)"):
        lesion_shares(torch.zeros(4, 4, 5, dtype=torch.uint8), GRID)
