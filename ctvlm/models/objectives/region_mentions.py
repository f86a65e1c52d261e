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
    """All (case, region) pairs of a batch that a step mentions.

    A region of which a crop kept less than ``min_kept`` is not a pair: the finding is then more likely in the part
    that was cut off.

    Attributes:
        cases, regions: case index and region id (from 1) of each pair (M).
        present: whether the volume contains the region (M). Regions can be predicted, so the host does not know it.
        text_ids: equal for pairs with the same text: the same steps, or only that the region is normal (M).
        num_steps: number of mentions of each pair (M).
        pairs, steps: the mentions, as pair index and text of the step.
    """

    cases: Tensor
    regions: Tensor
    present: Tensor
    text_ids: Tensor
    num_steps: Tensor
    pairs: Tensor
    steps: list[str]

    @classmethod
    def from_samples(
        cls, data_samples: Sequence[CTDataSample], region_mask_BR: Tensor, min_kept: float = 0.5
    ) -> RegionMentions:
        rows: list[tuple[int, int, int, int]] = []
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
            if mentions and max(mentions) > region_mask_BR.shape[1]:
                raise ValueError(
                    f"case {sample.get('case_id', b)}: a step mentions region {max(mentions)}, but the encoder has "
                    f"num_regions = {region_mask_BR.shape[1]}; set num_regions to the size of the scheme"
                )
            for region, texts in sorted(mentions.items()):
                if kept.get(region, 1.0) < min_kept:
                    continue
                pairs += [len(rows)] * len(texts)
                steps += texts
                number = text_id(*(sorted(texts) if region in abnormal else ["normal", str(region)]))
                rows.append((b, region, number, len(texts)))
        device = region_mask_BR.device
        columns_M4 = torch.tensor(rows, dtype=torch.long).view(-1, 4).to(device, non_blocking=True)
        cases, regions, text_ids, num_steps = columns_M4.unbind(dim=1)
        pairs_X = torch.tensor(pairs, dtype=torch.long).to(device, non_blocking=True)
        return cls(cases, regions, region_mask_BR[cases, regions - 1], text_ids, num_steps, pairs_X, steps)

    def mean_text(self, step_XP: Tensor) -> Tensor:
        """Mean embedding of the steps that mention each pair's region (M, P), from embeddings of ``steps``."""
        summed_MP = step_XP.new_zeros(len(self.cases), step_XP.shape[1]).index_add(0, self.pairs, step_XP)
        return summed_MP / self.num_steps[:, None]
