"""The texts of a batch: each distinct text is encoded once and indexed wherever it occurs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ctvlm.structures import CoTStep, CTDataSample


def text_id(*texts: str) -> int:
    """A number that is equal for equal texts on every rank and machine (63 bits)."""
    digest = hashlib.blake2b("\x1f".join(texts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def step_id(step: CoTStep) -> int:
    """Equal for steps that say the same: the same text, or that the same regions are normal, in whatever words."""
    return text_id("normal", *map(str, sorted(step.regions))) if step.normal else text_id(step.text)


# The only text of a batch that has none: encoders take no empty list, and each rank must use all of its parameters.
NO_TEXT = "no text"


def drop_blank_steps(data_samples: Sequence[CTDataSample]) -> None:
    """Remove steps without text from samples: they are no pairs, and no prediction is made for them."""
    for sample in data_samples:
        if not all(step.text.strip() for step in sample.steps):
            sample.steps = [step for step in sample.steps if step.text.strip()]


@dataclass
class TextBatch:
    """Distinct texts of a batch and where they belong.

    Attributes:
        texts: the distinct texts (U), at least one. None of them is blank.
        impressions: index into ``texts`` of each case's impression (B); None for a case without one.
        steps: index into ``texts`` of each case's steps, per case.
        step_ids: ``step_id`` of each case's steps, per case.
    """

    texts: list[str] = field(default_factory=list)
    impressions: list[int | None] = field(default_factory=list)
    steps: list[list[int]] = field(default_factory=list)
    step_ids: list[list[int]] = field(default_factory=list)

    @classmethod
    def from_samples(cls, data_samples: Sequence[CTDataSample]) -> TextBatch:
        """Texts of samples, whose steps all have a text (see ``drop_blank_steps``)."""
        batch = cls()
        index: dict[str, int] = {}

        def add(text: str) -> int:
            if text not in index:
                index[text] = len(batch.texts)
                batch.texts.append(text)
            return index[text]

        for sample in data_samples:
            batch.impressions.append(add(sample.impression) if sample.impression.strip() else None)
            batch.steps.append([add(step.text) for step in sample.steps])
            batch.step_ids.append([step_id(step) for step in sample.steps])
        if not batch.texts:
            add(NO_TEXT)
        return batch

    def impression_pairs(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Of the M cases with an impression: case, index into ``texts``, and an id that equal impressions share."""
        found = [(case, i, text_id(self.texts[i])) for case, i in enumerate(self.impressions) if i is not None]
        return torch.tensor(found, dtype=torch.long, device=device).reshape(-1, 3).unbind(dim=1)

    def padded_steps(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Steps as a rectangle: index into ``texts`` (B, S), mask (B, S), step ids (B, S)."""
        width = max([len(steps) for steps in self.steps] + [1])
        index_BS = torch.zeros(len(self.steps), width, dtype=torch.long)
        ids_BS = torch.zeros(len(self.steps), width, dtype=torch.long)
        mask_BS = torch.zeros(len(self.steps), width, dtype=torch.bool)
        for b, steps in enumerate(self.steps):
            index_BS[b, : len(steps)] = torch.tensor(steps, dtype=torch.long)
            ids_BS[b, : len(steps)] = torch.tensor(self.step_ids[b], dtype=torch.long)
            mask_BS[b, : len(steps)] = True
        return index_BS.to(device), mask_BS.to(device), ids_BS.to(device)


@dataclass
class RegionMentions:
    """All (case, region) pairs of a batch that a step mentions and the volume shows.

    A region of which a crop left less than ``min_kept`` is no pair: what the text says of it is then more likely in the
    part that is gone than in the part to be seen.

    Attributes:
        cases, regions: case index and region id (from 1) of each pair (M).
        text_ids: equal where the same is said of the region: the same steps, or nothing but that it is normal (M).
        pairs, steps: the mentions, as pair index and index into ``TextBatch.texts``.
    """

    cases: Tensor
    regions: Tensor
    text_ids: Tensor
    pairs: Tensor
    steps: Tensor

    @classmethod
    def from_samples(
        cls, data_samples: Sequence[CTDataSample], texts: TextBatch, region_mask_BR: Tensor, min_kept: float = 0.5
    ) -> RegionMentions:
        visible = region_mask_BR.tolist()
        cases, regions, text_ids, pairs, steps = [], [], [], [], []
        for b, sample in enumerate(data_samples):
            kept = sample.get("region_kept", {})
            mentions: dict[int, list[int]] = {}
            abnormal: set[int] = set()
            for step, index in zip(sample.steps, texts.steps[b], strict=True):
                for region in step.regions:
                    mentions.setdefault(region, []).append(index)
                abnormal |= set() if step.normal else set(step.regions)
            for region, mentioned_by in sorted(mentions.items()):
                if not visible[b][region - 1] or kept.get(region, 1.0) < min_kept:
                    continue
                pairs += [len(cases)] * len(mentioned_by)
                steps += mentioned_by
                cases.append(b)
                regions.append(region)
                said = sorted(texts.texts[i] for i in mentioned_by) if region in abnormal else ["normal", str(region)]
                text_ids.append(text_id(*said))
        device = region_mask_BR.device
        return cls(
            *(torch.tensor(x, dtype=torch.long, device=device) for x in (cases, regions, text_ids, pairs, steps))
        )

    def mean_text(self, text_UP: Tensor) -> Tensor:
        """Mean embedding of the steps that mention each pair's region (M, P)."""
        summed_MP = text_UP.new_zeros(len(self.cases), text_UP.shape[1]).index_add(0, self.pairs, text_UP[self.steps])
        return summed_MP / torch.bincount(self.pairs, minlength=len(self.cases))[:, None]
