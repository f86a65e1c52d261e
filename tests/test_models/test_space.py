"""Regions in the volume embedding."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from ctvlm.models.space import SharedSpace
from ctvlm.structures import EncoderOutput

B, N, R, E = 2, 6, 3, 8


def encoded() -> EncoderOutput:
    torch.manual_seed(0)
    return EncoderOutput(
        tokens=torch.randn(B, N, E),
        token_mask=torch.ones(B, N, dtype=torch.bool),
        positions=torch.zeros(B, N, 3),
        region_tokens=torch.randn(B, R, E),
        region_presence=torch.tensor([[True, False, True], [True, True, True]]),
        patch_to_region=torch.rand(B, N, R + 1).softmax(dim=-1),
        grid=(1, 2, 3),
    )


def share(kind: str, scores: list[float], one: int) -> float:
    if kind == "sigmoid":
        return 1 / (1 + math.exp(2 - scores[one]))
    return math.exp(scores[one]) / (1 + sum(map(math.exp, scores)))


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_volume_embedding_is_a_sum_over_the_regions_present(kind):
    torch.manual_seed(1)
    space, found = SharedSpace(E, E, 4, regions_in_volume=kind), encoded()
    regions_BRE, regions_BRP, _ = space.embed_regions(found)
    expected_BP = space.volume_projection(space.volume_pooling(found)).clone()
    for b in range(B):
        present = [r for r in range(R) if found.region_mask[b, r]]
        scores = [float(space.region_score(regions_BRE[b, r]).detach()) for r in present]
        for one, r in enumerate(present):
            expected_BP[b] += share(kind, scores, one) * F.normalize(regions_BRP[b, r], dim=0)
    torch.testing.assert_close(space.embed_volume(found), expected_BP)


def test_unknown_share_is_refused():
    with pytest.raises(ValueError, match="regions_in_volume"):
        SharedSpace(E, E, 4, regions_in_volume="mean")
