"""Views of one batch that objectives share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ctvlm.models.objectives.step_targets import step_targets
from ctvlm.models.objectives.text_bank import TextBank
from ctvlm.models.objectives.text_ids import step_id
from ctvlm.models.region_encoders.overlap import patch_overlap
from ctvlm.models.space import SharedSpace
from ctvlm.structures import Anatomy, CTDataSample, EncoderOutput

# volume (B 1 D H W, HU), region_map (B D H W or None), spacing (B 3, mm, on the host), and, where the volume is on
# another device, host_volume: list of (1 D H W, HU).
Inputs = dict[str, Any]


@dataclass
class Steps:
    """The reasoning steps of a batch as a rectangle.

    Attributes:
        text_BSP: embeddings, not normalised; row 0 of the texts for padding.
        mask_BS: False for padding.
        rows_M: place b * S + s of each step that is not padding.
        ids_M: equal for steps with the same meaning (see ``step_id``).
    """

    text_BSP: Tensor
    mask_BS: Tensor
    rows_M: Tensor
    ids_M: Tensor

    def of_steps(self, rows_BSx: Tensor) -> Tensor:
        """Rows of the steps without padding (M, x)."""
        return rows_BSx.flatten(0, 1).index_select(0, self.rows_M)


class BatchContext:
    """Lazy views of a batch. Each is computed at most once, at first use.

    Embeddings are not normalised.

    Args:
        inputs: as ``CoTContrastiveVLM.forward`` takes them.
        samples: the cases; steps all have a text.
        encode: inputs, anatomy and (optional) visible patches to EncoderOutput.
        grid: patch grid of the encoder for ``inputs``.
        num_regions: regions R of the encoder.
        space: the shared space.
        texts: the text bank of the batch.
    """

    def __init__(
        self,
        inputs: Inputs,
        samples: Sequence[CTDataSample],
        encode: Callable[..., EncoderOutput],
        grid: tuple[int, int, int],
        num_regions: int,
        space: SharedSpace,
        texts: TextBank,
    ) -> None:
        self.inputs = inputs
        self.samples = samples
        self.space = space
        self.texts = texts
        self.grid = grid
        self.num_regions = num_regions
        self._encode = encode
        self._pooled: dict[bool, Tensor] = {}

    @cached_property
    def anatomy(self) -> Anatomy | None:
        """Overlap of patches with the region maps; None if no case has a map."""
        return self._overlap(self.grid)

    def anatomy_on(self, grid: tuple[int, int, int]) -> Anatomy | None:
        """Overlap of the region maps with the cells of a grid. That of the patch grid is computed once."""
        return self.anatomy if tuple(grid) == tuple(self.grid) else self._overlap(grid)

    def _overlap(self, grid: tuple[int, int, int]) -> Anatomy | None:
        region_map_BDHW = self.inputs.get("region_map")
        return None if region_map_BDHW is None else Anatomy(*patch_overlap(region_map_BDHW, grid, self.num_regions))

    @cached_property
    def encoded(self) -> EncoderOutput:
        """Output of the vision encoder."""
        return self._encode(self.inputs, self.anatomy)

    def encode_visible(self, visible_BN: Tensor) -> EncoderOutput:
        """Output of the vision encoder for a part of the patches (True), such as those that are not masked."""
        return self._encode(self.inputs, self.anatomy, visible_BN)

    @cached_property
    def regions(self) -> tuple[Tensor, Tensor, Tensor]:
        """Pooled regions (B, R, E), their embeddings (B, R, P), and a mask of regions present (B, R)."""
        return self.space.embed_regions(self.encoded)

    @cached_property
    def volume_BP(self) -> Tensor:
        """Volume embeddings."""
        regions = None if self.space.region_score is None else self.regions
        return self.space.embed_volume(self.encoded, regions)

    @cached_property
    def patch_BNP(self) -> Tensor:
        """Patch embeddings."""
        return self.space.embed_patches(self.encoded.tokens)

    @cached_property
    def unit_patch_BNP(self) -> Tensor:
        """Patch embeddings, L2-normalised."""
        return F.normalize(self.patch_BNP, dim=-1)

    @cached_property
    def steps(self) -> Steps:
        """The steps of all cases, padded. Needs their texts in the text bank (see ``request_steps``)."""
        width = max([len(sample.steps) for sample in self.samples] + [1])
        text_UP = self.texts.text_UP
        index_BS = torch.zeros(len(self.samples), width, dtype=torch.long)
        mask_BS = torch.zeros(len(self.samples), width, dtype=torch.bool)
        rows: list[int] = []
        for b, sample in enumerate(self.samples):
            count = len(sample.steps)
            index_BS[b, :count] = torch.tensor(self.texts.index([step.text for step in sample.steps]))
            mask_BS[b, :count] = True
            rows += range(b * width, b * width + count)
        ids = [step_id(step) for sample in self.samples for step in sample.steps]
        host = (index_BS, mask_BS, torch.tensor([rows, ids], dtype=torch.long))
        index_BS, mask_BS, rows_and_ids_2M = (column.to(text_UP.device, non_blocking=True) for column in host)
        return Steps(text_UP[index_BS], mask_BS, *rows_and_ids_2M)

    @cached_property
    def step_attention_BSN(self) -> Tensor:
        """Attention of each step over the patches of its case; rows sum to 1."""
        return self.space.step_attention(self.steps.text_BSP, self.patch_BNP, self.encoded.token_mask)

    @cached_property
    def step_target_BSN(self) -> Tensor:
        """Occupancy of each step's lesion or regions; rows sum to 1, or to 0 without a target."""
        num_steps = self.steps.mask_BS.shape[1]
        return step_targets(self.encoded, self.anatomy, self.samples, num_steps)

    def pooled_steps(self, pool_by_mask: bool) -> Tensor:
        """Normalised patch embeddings pooled for each step (B, S, P).

        Args:
            pool_by_mask: pool over the step's target if it has one, else by its attention. False: always by attention.
        """
        if pool_by_mask not in self._pooled:
            weight_BSN = self.step_attention_BSN
            if pool_by_mask:
                target_BSN = self.step_target_BSN
                has_target_BS1 = target_BSN.sum(dim=-1, keepdim=True) > 0
                weight_BSN = torch.where(has_target_BS1, target_BSN.to(weight_BSN), weight_BSN)
            self._pooled[pool_by_mask] = weight_BSN.to(self.unit_patch_BNP.dtype) @ self.unit_patch_BNP
        return self._pooled[pool_by_mask]


def host_volumes(inputs: Inputs) -> Sequence[Tensor] | Tensor:
    """Volumes (1, D, H, W) in HU, on the host if the data preprocessor has kept them there."""
    host = inputs.get("host_volume")
    return inputs["volume"] if host is None else host


def request_steps(texts: TextBank) -> None:
    """Request the texts of the steps of all cases."""
    for case, sample in enumerate(texts.samples):
        texts.request(case, [step.text for step in sample.steps])
