"""Pairs of regions and the steps that mention them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ctvlm.models.objectives.text_ids import text_id
from ctvlm.structures import CTDataSample


@dataclass
class RegionMentions:
    """All (case, region) pairs of a batch that a step mentions and that the volume contains.

    A region of which a crop kept less than ``min_kept`` is not a pair: the finding is then more likely in the part
    that was cut off.

    Attributes:
        cases, regions: case index and region id (from 1) of each pair (M).
        text_ids: equal for pairs with the same text: the same steps, or only that the region is normal (M).
        pairs, steps: the mentions, as pair index and text of the step.
    """

    cases: Tensor
    regions: Tensor
    text_ids: Tensor
    pairs: Tensor
    steps: list[str]

    @classmethod
    def from_samples(
        cls, data_samples: Sequence[CTDataSample], region_mask_BR: Tensor, min_kept: float = 0.5
    ) -> RegionMentions:
        visible = region_mask_BR.tolist()
        cases: list[int] = []
        regions: list[int] = []
        text_ids: list[int] = []
        pairs: list[int] = []
        steps: list[str] = []
        for b, sample in enumerate(data_samples):
            kept = sample.get("region_kept", {})
            mentions: dict[int, list[str]] = {}
            abnormal: set[int] = set()
            for step in sample.steps:
                for region in step.regions:
                    mentions.setdefault(region, []).append(step.text)
                abnormal |= set() if step.normal else set(step.regions)
            for region, texts in sorted(mentions.items()):
                if not visible[b][region - 1] or kept.get(region, 1.0) < min_kept:
                    continue
                pairs += [len(cases)] * len(texts)
                steps += texts
                cases.append(b)
                regions.append(region)
                text_ids.append(text_id(*(sorted(texts) if region in abnormal else ["normal", str(region)])))
        device = region_mask_BR.device
        columns = dict(cases=cases, regions=regions, text_ids=text_ids, pairs=pairs)
        tensors = {name: torch.tensor(column, dtype=torch.long, device=device) for name, column in columns.items()}
        return cls(**tensors, steps=steps)

    def mean_text(self, step_XP: Tensor) -> Tensor:
        """Mean embedding of the steps that mention each pair's region (M, P), from embeddings of ``steps``."""
        summed_MP = step_XP.new_zeros(len(self.cases), step_XP.shape[1]).index_add(0, self.pairs, step_XP)
        return summed_MP / torch.bincount(self.pairs, minlength=len(self.cases))[:, None]
