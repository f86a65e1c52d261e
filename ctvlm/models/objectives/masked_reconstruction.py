"""Masked patches reconstructed from the visible ones, without text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ctvlm.models.backbones.body_selection import body_of_hu
from ctvlm.models.losses.functional import patch_voxels
from ctvlm.models.objectives.base import Objective
from ctvlm.models.objectives.batch_context import BatchContext, host_volumes
from ctvlm.models.objectives.text_ids import text_id
from ctvlm.registry import HEADS, OBJECTIVES
from ctvlm.structures import CTDataSample, MeanTerms
from ctvlm.volume.windows import apply_windows


@OBJECTIVES.register_module()
class MaskedReconstructionObjective(Objective):
    """Encode a part of the body's patches and predict the voxels of the others (masked autoencoder, He et al., 2022).

    The pass of the encoder is its own: other objectives read all patches. Patches of air outside the body are neither
    encoded nor predicted. Masks are random in training, and depend on the case id only in evaluation mode.

    Args:
        mask_ratio: share of the body's patches that is masked; at least one patch is visible.
        decoder: config of a head ``(encoded, body_BN, masked_BN) -> voxels (M, V)`` with ``patch_size``.
        kwargs: as Objective.

    Raises:
        ValueError: the mask ratio is not between 0 and 1, or the decoder's patch size is not that of the encoder.
    """

    default_loss = "MaskedReconstructionLoss"
    reads_all_patches = False

    def __init__(self, mask_ratio: float = 0.75, decoder: dict | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        if not 0 < mask_ratio < 1:
            raise ValueError(
                f"MaskedReconstructionObjective: mask_ratio = {mask_ratio}; expected a share above 0 and below 1"
            )
        self.mask_ratio = mask_ratio
        decoder = {"type": "MaskedPatchDecoder", **(decoder or {})}
        self.decoder = HEADS.build(decoder, default_args=dict(in_dims=self.vision_dims))

    def features(self, context: BatchContext) -> MeanTerms:
        hu_B1DHW = context.inputs["volume"]
        size, patch_size = tuple(hu_B1DHW.shape[2:]), self.decoder.patch_size
        if tuple(g * p for g, p in zip(context.grid, patch_size)) != size:
            raise ValueError(
                f"MaskedReconstructionObjective: found decoder.patch_size = {patch_size} for volumes of {size} voxels "
                f"in {context.grid} patches; expected the patch_size of the backbone, "
                f"{tuple(s // g for s, g in zip(size, context.grid))}"
            )
        # On the host, where the numbers of visible and of masked patches are known without a wait for the device.
        body_BN = body_of_hu(host_volumes(context.inputs), context.grid, _soft_tissue)
        visible_BN = self.visible(body_BN, context.samples)
        masked_BN = body_BN & ~visible_BN
        predicted_MV = self.decoder(context.encode_visible(visible_BN), body_BN, masked_BN)
        rows_M = masked_BN.flatten().nonzero()[:, 0].to(hu_B1DHW.device, non_blocking=True)
        hu_MV = patch_voxels(hu_B1DHW, patch_size).flatten(0, 1).index_select(0, rows_M)
        return MeanTerms(self.criterion.terms(predicted_MV, hu_MV))

    def visible(self, body_BN: Tensor, samples: Sequence[CTDataSample]) -> Tensor:
        """The patches that the encoder reads (B, N), a random part of ``body_BN``."""
        # Drawn on the CPU and case by case: the same on every device and for any number of cases at a time.
        noise_BN = torch.stack([torch.rand(body_BN.shape[1], generator=self._generator(one)) for one in samples])
        noise_BN = noise_BN.to(body_BN.device).masked_fill(~body_BN, 2.0)
        count_B1 = (body_BN.sum(dim=1, keepdim=True) * (1 - self.mask_ratio)).round().clamp(min=1)
        return noise_BN.argsort(dim=1).argsort(dim=1) < count_B1

    def _generator(self, sample: CTDataSample) -> torch.Generator | None:
        return None if self.training else torch.Generator().manual_seed(text_id(sample.case_id))


def _soft_tissue(hu_B1dhw: Tensor) -> Tensor:
    return apply_windows(hu_B1dhw[:, 0], ["soft_tissue"])
