"""Region features from a convolutional network over the label map: the spec's literal form."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ctvlm.models.region_encoders.base import RegionEncoder, RegionEncoding
from ctvlm.models.region_encoders.overlap import UNKNOWN, check_region_map, has_unknown_id
from ctvlm.registry import REGION_ENCODERS
from ctvlm.structures import TokenContext
from ctvlm.utils.memory import available_memory

GB = 1e9


@REGION_ENCODERS.register_module()
class MaskCNNRegionEncoder(RegionEncoder):
    """Three 3x3x3 convolutions with ReLU between them, over the region ids as one float channel at full resolution.

    The mean of the output over a patch is the patch's region feature. The softmax of its scaled dot products with
    the R region embeddings is the assignment, without background (column 0 is 0). Region tokens are the
    embeddings themselves, so they are the same in every block and every case. A case without a map is all background.

    This is the spec's literal form, kept for comparison. ``SoftOverlapRegionEncoder`` is the corrected form: here ids
    are numbers, so region 7 is "larger" than region 3, and 64x512x512 voxels with E = 768 need 51.5 GB for the last
    output alone. The spec does not give ``hidden_dims``.

    Args:
        hidden_dims: channels of the first two convolutions.
        max_memory_gb: memory limit of the network in GB (1e9 bytes). ``None``: the memory available on the device.

    Raises:
        MemoryError: the network needs more memory; the message states both values.
        ValueError: a region id outside -1..R.
    """

    def __init__(
        self,
        embed_dims: int,
        num_regions: int = 20,
        hidden_dims: tuple[int, int] = (16, 32),
        max_memory_gb: float | None = None,
    ) -> None:
        super().__init__(embed_dims, num_regions)
        if len(hidden_dims) != 2:
            raise ValueError(f"MaskCNNRegionEncoder: hidden_dims = {tuple(hidden_dims)}; expected two widths")
        self.channels = (1, *hidden_dims, embed_dims)
        self.max_memory_gb = max_memory_gb
        first, second, third = (nn.Conv3d(i, o, kernel_size=3, padding=1) for i, o in pairwise(self.channels))
        self.mask_cnn = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)

    def memory_needed(self, region_map_BDHW: Tensor) -> int:
        """Bytes of the input and all outputs of the network; twice that in training (activations and gradients)."""
        inputs, first, second, third = self.channels
        with_gradients = self.training and torch.is_grad_enabled()
        per_voxel = inputs + 2 * (first + second) + third
        return region_map_BDHW.numel() * per_voxel * self.region_embedding.element_size() * (2 if with_gradients else 1)

    def region_features(self, region_map_BDHW: Tensor, check_ids: bool = True) -> Tensor:
        """Output of the network at full resolution (B, E, D, H, W). The check of the ids waits for the device."""
        mask_B1DHW = region_map_BDHW[:, None].clamp(min=0).to(self.region_embedding.dtype)
        if torch.compiler.is_compiling():  # a graph has no values to check
            if check_ids:
                mask_B1DHW = mask_B1DHW.masked_fill(has_unknown_id(region_map_BDHW, self.num_regions), math.nan)
        elif not region_map_BDHW.is_meta:  # a meta tensor has only a shape: no ids, no memory
            if check_ids:
                check_region_map(region_map_BDHW, self.num_regions)
            self._check_memory(region_map_BDHW)
        return self.mask_cnn(mask_B1DHW)

    def assign(self, tokens_BNE: Tensor, region_map_BDHW: Tensor | None, ctx: TokenContext) -> RegionEncoding:
        # A map whose overlap is known has been checked.
        check_ids = region_map_BDHW is not None and ctx.anatomy is None
        if region_map_BDHW is None:
            region_map_BDHW = ctx.spacing_B3.new_full((tokens_BNE.shape[0], *ctx.grid), UNKNOWN)
        features_BEDHW = self.region_features(region_map_BDHW, check_ids)
        features_BNE = ctx.gather(F.adaptive_avg_pool3d(features_BEDHW, ctx.grid).flatten(2).transpose(1, 2))
        logits_BNR = features_BNE @ self.region_embedding.T * self.embed_dims**-0.5
        shares_BNR = logits_BNR.softmax(dim=-1, dtype=torch.promote_types(logits_BNR.dtype, torch.float32))
        known_B11 = (region_map_BDHW != UNKNOWN).flatten(1).any(dim=1)[:, None, None].to(shares_BNR)
        background_BN1 = (1 - known_B11).expand(*shares_BNR.shape[:2], 1)
        assignment_BNR1 = torch.cat([background_BN1, shares_BNR * known_B11], dim=-1)
        # The softmax gives every region a share of every patch, so the regions present are taken from the map.
        ids = range(1, self.num_regions + 1)
        presence_BR = torch.stack([(region_map_BDHW == i).flatten(1).any(dim=1) for i in ids], dim=1)
        return RegionEncoding(assignment_BNR1, presence=presence_BR)

    def region_tokens(self, tokens_BNE: Tensor, assignment_BNR1: Tensor) -> Tensor:
        """The region embeddings (B, R, E), independent of the patches."""
        return self.region_embedding.expand(tokens_BNE.shape[0], -1, -1)

    def _check_memory(self, region_map_BDHW: Tensor) -> None:
        needed = self.memory_needed(region_map_BDHW)
        limit = available_memory(region_map_BDHW.device) if self.max_memory_gb is None else self.max_memory_gb * GB
        if needed > limit:
            source = "available" if self.max_memory_gb is None else "allowed by max_memory_gb"
            raise MemoryError(
                f"MaskCNNRegionEncoder needs {needed / GB:.1f} GB for a region map of shape "
                f"{tuple(region_map_BDHW.shape)} and embed_dims = {self.embed_dims}; {limit / GB:.1f} GB are {source}. "
                "Use a smaller batch or volume, or SoftOverlapRegionEncoder, which needs no features per voxel"
            )
