"""Target patches of each reasoning step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ctvlm.models.region_encoders.overlap import patch_shape
from ctvlm.structures import Anatomy, CTDataSample, EncoderOutput


def step_targets(
    encoded: EncoderOutput, anatomy: Anatomy | None, data_samples: Sequence[CTDataSample], num_steps: int
) -> Tensor:
    """Share of each patch in a step's target, rows normalised (B, S, N). A step without a target has a row of 0.

    The target is the step's lesion mask if there is one, else the regions that the step mentions. Patches that the
    encoder dropped do not count.
    """
    device = encoded.tokens.device
    num_regions = 0 if anatomy is None else anatomy.shares_BNR1.shape[2] - 1
    mentioned: list[tuple[int, int, int]] = []
    rows: list[Tensor] = []
    places: list[tuple[int, int]] = []
    for b, sample in enumerate(data_samples):
        lesions_LN = lesion_shares(sample.get("lesion_map"), encoded.grid)
        for s, step in enumerate(sample.steps):
            if step.lesion is not None and 0 < step.lesion < len(lesions_LN):
                rows.append(lesions_LN[step.lesion])
                places.append((b, s))
            elif step.regions and anatomy is not None:
                mentioned += [(b, s, region) for region in step.regions]
    target_BSN = torch.zeros(len(data_samples), num_steps, encoded.tokens.shape[1])
    if rows:
        b_M, s_M = torch.tensor(places).T
        target_BSN[b_M, s_M] = torch.stack(rows)
    target_BSN = target_BSN.to(device, non_blocking=True)
    if anatomy is not None:
        mentioned_BSR1 = torch.zeros(len(data_samples), num_steps, num_regions + 1)
        mentioned_BSR1[tuple(torch.tensor(mentioned, dtype=torch.long).view(-1, 3).T)] = 1
        target_BSN = target_BSN + mentioned_BSR1.to(device, non_blocking=True) @ anatomy.shares_BNR1.mT
    target_BSN = target_BSN * encoded.token_mask[:, None]
    return target_BSN / target_BSN.sum(dim=-1, keepdim=True).clamp(min=1e-6)


def lesion_shares(lesion_map_DHW: Tensor | None, grid: tuple[int, int, int]) -> Tensor:
    """Share of each patch in each lesion, on the host (L + 1, N); row 0, outside of lesions, is 0. No map: (0, N)."""
    d, h, w = grid
    if lesion_map_DHW is None:
        return torch.zeros(0, d * h * w)
    pd, ph, pw = patch_shape(lesion_map_DHW.shape, grid)
    lesion_map = lesion_map_DHW.cpu().numpy()
    # Lesions are small: the indices of their voxels are few.
    z, y, x = np.unravel_index(np.flatnonzero(lesion_map != 0), lesion_map.shape)
    ids = lesion_map[z, y, x].astype(np.int64)
    patch = (z // pd * h + y // ph) * w + x // pw
    lesions = int(ids.max(initial=0)) + 1
    counts = np.bincount(ids * (d * h * w) + patch, minlength=lesions * d * h * w)
    return torch.from_numpy(counts.reshape(lesions, -1) / (pd * ph * pw)).float()
