"""Content of masked patches from the visible ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ctvlm.models.backbones.body_selection import kept_index
from ctvlm.models.layers import SinCosPosition3D, ThreeDTransformerBlock, init_vit
from ctvlm.models.layers.transformer_block import NORM_EPS
from ctvlm.registry import HEADS
from ctvlm.structures import EncoderOutput, TokenContext


@HEADS.register_module()
class MaskedPatchDecoder(nn.Module):
    """Light transformer over the patches of the body; masked ones start as a learned token (He et al., 2022).

    Args:
        in_dims: width of the encoder.
        patch_size: voxels per patch (z, y, x), as in the encoder.
        embed_dims: width of the decoder.
        depth: number of blocks.
        num_heads: heads of each block.
    """

    def __init__(
        self,
        in_dims: int,
        patch_size: tuple[int, int, int] = (4, 16, 16),
        embed_dims: int = 96,
        depth: int = 2,
        num_heads: int = 2,
    ) -> None:
        super().__init__()
        self.patch_size = tuple(patch_size)
        self.embed = nn.Linear(in_dims, embed_dims)
        self.mask_token = nn.Parameter(torch.zeros(embed_dims))
        self.position = SinCosPosition3D(embed_dims)
        attention = dict(type="FullAttention")
        self.blocks = nn.ModuleList(
            ThreeDTransformerBlock(embed_dims, num_heads, attention, depth=depth) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dims, eps=NORM_EPS)
        self.predict = nn.Linear(embed_dims, math.prod(self.patch_size))
        self.embed.apply(init_vit)
        self.predict.apply(init_vit)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, encoded: EncoderOutput, body_BN: Tensor, masked_BN: Tensor) -> Tensor:
        """Voxels of the masked patches (M, V), in the order of ``masked_BN``.

        Args:
            encoded: output of the encoder for the visible patches.
            body_BN: patches that the decoder reads and predicts.
            masked_BN: the part of ``body_BN`` that the encoder did not read. Both are best on the host: their numbers
                of patches are shapes here.
        """
        visible_BNE = self.embed(encoded.tokens)
        x_BNE = torch.where(encoded.token_mask[..., None], visible_BNE, self.mask_token.to(visible_BNE))
        x_BNE = x_BNE + self.position(encoded.grid, x_BNE)
        index_Bn, mask_Bn = kept_index(body_BN)
        chosen_Bn = masked_BN.gather(1, index_Bn) & mask_Bn
        rows_M = chosen_Bn.flatten().nonzero()[:, 0]
        index_Bn, mask_Bn, rows_M = (x.to(x_BNE.device, non_blocking=True) for x in (index_Bn, mask_Bn, rows_M))
        # Blocks without a distance in mm: the spacing has no effect.
        ctx = TokenContext(encoded.grid, index_Bn, mask_Bn, torch.ones(len(body_BN), 3, device=x_BNE.device))
        x_BnE = ctx.gather(x_BNE)
        for block in self.blocks:
            x_BnE = block(x_BnE, ctx)
        return self.predict(self.norm(x_BnE.flatten(0, 1).index_select(0, rows_M)))
