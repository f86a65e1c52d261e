"""Visual memory of a decoder: volume, region and patch features in the decoder's width."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ctvlm.models.layers import init_vit
from ctvlm.structures import EncoderOutput


class VisualMemory(nn.Module):
    """EncoderOutput to memory tokens (B, 1 + R + N, out_dims) and their mask: the volume, its regions, its patches.

    Every region has a name vector (R, out_dims), from the caller or learned here. It is added to the region's token
    and, weighted by the patch-to-region assignment, to the patches. After writing a region's name, a decoder can
    attend to the region and its patches through the same vector.

    Args:
        patch_grid: average the patches to (d, h, w) tokens; ``None``: all patches.
        own_names: learn name vectors here; False if they are passed to ``forward``.
    """

    names: nn.Parameter | None

    def __init__(
        self,
        in_dims: int,
        out_dims: int,
        num_regions: int = 20,
        patch_grid: tuple[int, int, int] | None = None,
        own_names: bool = True,
    ) -> None:
        super().__init__()
        self.patch_grid = patch_grid
        self.project = nn.ModuleDict(
            {part: nn.Sequential(nn.LayerNorm(in_dims), nn.Linear(in_dims, out_dims)) for part in ("volume", "region")}
        )
        self.project["patch"] = nn.Sequential(nn.LayerNorm(in_dims), nn.Linear(in_dims, out_dims))
        self.names = nn.Parameter(torch.randn(num_regions, out_dims) * 0.02) if own_names else None
        self.apply(init_vit)

    def forward(self, encoded: EncoderOutput, names_RE: Tensor | None = None) -> tuple[Tensor, Tensor]:
        names_RE = self.names if names_RE is None else names_RE
        if names_RE is None:
            raise ValueError("VisualMemory(own_names=False) has no name vectors; pass names_RE")
        patches_BNE, share_BNR, mask_BN = encoded.tokens, encoded.patch_to_region[..., 1:], encoded.token_mask
        if self.patch_grid is not None:
            patches_BNE, share_BNR, mask_BN = self._coarse(encoded)
        weight_BN1 = encoded.token_mask[..., None].to(encoded.tokens.dtype)
        volume_BE = (encoded.tokens * weight_BN1).sum(dim=1) / weight_BN1.sum(dim=1).clamp(min=1)
        volume_B1E = self.project["volume"](volume_BE)[:, None]
        region_BRE = self.project["region"](encoded.region_tokens) + names_RE
        patch_BNE = self.project["patch"](patches_BNE) + share_BNR.to(names_RE.dtype) @ names_RE
        memory_BME = torch.cat([volume_B1E, region_BRE.to(volume_B1E.dtype), patch_BNE.to(volume_B1E.dtype)], dim=1)
        mask_BM = torch.cat([torch.ones_like(mask_BN[:, :1]), encoded.region_mask, mask_BN], dim=1)
        return memory_BME * mask_BM[..., None], mask_BM

    def _coarse(self, encoded: EncoderOutput) -> tuple[Tensor, Tensor, Tensor]:
        """Average of the patches that are tokens over each cell of ``patch_grid``; an empty cell is masked."""
        weight_BN1 = encoded.token_mask[..., None].to(encoded.tokens.dtype)

        def pooled(x_BNE: Tensor) -> Tensor:
            grid_BEdhw = x_BNE.transpose(1, 2).unflatten(2, encoded.grid)
            return F.adaptive_avg_pool3d(grid_BEdhw, self.patch_grid).flatten(2).transpose(1, 2)

        weight_BM1 = pooled(weight_BN1)
        tokens_BME, share_BMR = (
            pooled(x * weight_BN1) / weight_BM1.clamp(min=1e-6)
            for x in (encoded.tokens, encoded.patch_to_region[..., 1:].to(encoded.tokens.dtype))
        )
        return tokens_BME, share_BMR, weight_BM1[..., 0] > 0
