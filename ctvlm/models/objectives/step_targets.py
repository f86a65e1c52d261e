"""Target patches of each reasoning step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ctvlm.models.region_encoders.overlap import label_shares
from ctvlm.structures import Anatomy, CTDataSample, EncoderOutput


def step_targets(
    encoded: EncoderOutput, anatomy: Anatomy | None, data_samples: Sequence[CTDataSample], num_steps: int
) -> Tensor:
    """Share of each patch in a step's target, rows normalised (B, S, N). A step without a target has a row of 0.

    The target is the step's lesion mask if there is one, else the regions that the step mentions. Patches that the
    encoder dropped do not count.
    """
    target_BSN = torch.zeros(len(data_samples), num_steps, encoded.tokens.shape[1], device=encoded.tokens.device)
    for b, sample in enumerate(data_samples):
        lesions_NL = _lesion_shares(sample, encoded.grid)
        for s, step in enumerate(sample.steps):
            if step.lesion is not None and lesions_NL is not None and step.lesion < lesions_NL.shape[1]:
                target_BSN[b, s] = lesions_NL[:, step.lesion]
            elif step.regions and anatomy is not None:
                target_BSN[b, s] = anatomy.shares_BNR1[b][:, list(step.regions)].sum(dim=1)
    target_BSN = target_BSN * encoded.token_mask[:, None]
    return target_BSN / target_BSN.sum(dim=-1, keepdim=True).clamp(min=1e-6)


def _lesion_shares(sample: CTDataSample, grid: tuple[int, int, int]) -> Tensor | None:
    """Share of each patch in each lesion (N, L + 1), column 0 outside; None for a case without a lesion map."""
    lesion_map = sample.get("lesion_map")
    if lesion_map is None:
        return None
    return label_shares(lesion_map[None], grid, int(lesion_map.max()))[0][0]
