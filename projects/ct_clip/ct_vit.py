"""The encoder of CTViT: factorised attention over space and depth, and a codebook.

An implementation of our own with the names of CT-CLIP's checkpoint (arXiv 2403.17834). What is unusual: keys and values
come from the tokens before the norm, queries and keys have unit length, and a depth-wise convolution in front of each
attention gives the position.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Factor of the similarities of unit vectors in front of the softmax.
SCALE = 8.0
# Tokens that are compared with the codebook at a time.
CHUNK = 4096


class GammaNorm(nn.Module):
    """Layer norm with a trained scale and a fixed offset."""

    beta: Tensor

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dims))
        self.register_buffer("beta", torch.zeros(dims))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.gamma, self.beta)


class PositionConv(nn.Module):
    """Depth-wise 3 x 3 x 3 convolution. Along the first axis it sees the two tokens before, else the neighbours."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.dsconv = nn.Conv3d(dims, dims, 3, groups=dims)

    def forward(self, x_BabcE: Tensor) -> Tensor:
        padded = F.pad(x_BabcE.movedim(-1, 1), (1, 1, 1, 1, 2, 0))
        return self.dsconv(padded).movedim(1, -1)


class CosineAttention(nn.Module):
    """Self-attention on queries and keys of unit length."""

    def __init__(self, dims: int, num_heads: int, head_dims: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = GammaNorm(dims)
        self.to_q = nn.Linear(dims, num_heads * head_dims, bias=False)
        self.to_kv = nn.Linear(dims, 2 * num_heads * head_dims, bias=False)
        self.q_scale = nn.Parameter(torch.ones(head_dims))
        self.k_scale = nn.Parameter(torch.ones(head_dims))
        self.to_out = nn.Linear(num_heads * head_dims, dims, bias=False)

    def forward(self, x_BNE: Tensor, bias_KNN: Tensor | None) -> Tensor:
        q, k, v = self.to_q(self.norm(x_BNE)), *self.to_kv(x_BNE).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, v))
        q, k = F.normalize(q, dim=-1) * self.q_scale, F.normalize(k, dim=-1) * self.k_scale
        mask = None if bias_KNN is None else bias_KNN[None].to(q.dtype)
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=SCALE)
        return self.to_out(found.transpose(1, 2).flatten(2))


class GatedUnit(nn.Module):
    """The first half of the features times GELU of the second."""

    def forward(self, x: Tensor) -> Tensor:
        values, gate = x.chunk(2, dim=-1)
        return values * F.gelu(gate)


class Layers(nn.Module):
    """Layers of convolution, attention and gated feed-forward, each with a residual connection, and a norm.

    The names of a layer's parts are their numbers in the checkpoint; number 2 is cross-attention, which has no weights.
    """

    def __init__(self, dims: int, depth: int, num_heads: int, head_dims: int) -> None:
        super().__init__()
        inner = int(dims * 8 / 3)
        self.layers = nn.ModuleList()
        for _ in range(depth):
            feed_forward = nn.Sequential(
                nn.LayerNorm(dims),
                nn.Linear(dims, 2 * inner, bias=False),
                GatedUnit(),
                nn.Identity(),
                nn.Linear(inner, dims, bias=False),
            )
            attention = CosineAttention(dims, num_heads, head_dims)
            self.layers.append(nn.ModuleDict({"0": PositionConv(dims), "1": attention, "3": feed_forward}))
        self.norm_out = GammaNorm(dims)

    def forward(self, x_BabcE: Tensor, over: int, bias_KNN: Tensor | None = None) -> Tensor:
        """Attention over the last ``over`` of the three axes."""
        shape = x_BabcE.shape
        for layer in self.layers:
            x_BabcE = x_BabcE + layer["0"](x_BabcE)
            x = x_BabcE.flatten(0, 3 - over).flatten(1, -2)
            x = x + layer["1"](x, bias_KNN)
            x_BabcE = (x + layer["3"](x)).view(shape)
        return self.norm_out(x_BabcE)


class PositionBias(nn.Module):
    """Bias of each head from the distance of two patches (arXiv 2111.09883): once per distance, not per pair."""

    def __init__(self, dims: int, num_heads: int) -> None:
        super().__init__()
        act = nn.LeakyReLU(0.1)
        first, second = nn.Sequential(nn.Linear(2, dims), act), nn.Sequential(nn.Linear(dims, dims), act)
        self.net = nn.ModuleList([first, second, nn.Linear(dims, num_heads)])

    def forward(self, height: int, width: int) -> Tensor:
        """(K, N, N) for N = height * width patches."""
        device = self.net[2].weight.device
        rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
        far = torch.meshgrid(
            torch.arange(1 - height, height, device=device),
            torch.arange(1 - width, width, device=device),
            indexing="ij",
        )
        table = torch.stack(far, dim=-1).to(self.net[2].weight.dtype)
        table = table.sign() * table.abs().add(1).log()
        for layer in self.net:
            table = layer(table)
        down = (rows[:, None] - rows + height - 1)[:, None, :, None]
        along = (columns[:, None] - columns + width - 1)[None, :, None, :]
        return table[down, along].flatten(2, 3).flatten(0, 1).permute(2, 0, 1)


class Codebook(nn.Module):
    """The most similar code of each token. Gradients pass through to the token."""

    embed: Tensor

    def __init__(self, dims: int, size: int) -> None:
        super().__init__()
        self.register_buffer("embed", F.normalize(torch.randn(1, size, dims), dim=-1))

    def forward(self, x: Tensor) -> Tensor:
        codes = self.embed[0]
        with torch.no_grad():
            unit = F.normalize(codes, dim=-1)
            parts = F.normalize(x.flatten(0, -2).float(), dim=-1).split(CHUNK)
            index = torch.cat([(part @ unit.T).argmax(dim=-1) for part in parts])
            quantized = codes[index].view(x.shape)
        return x + (quantized - x).detach() if x.requires_grad else quantized


class CTViTEncoder(nn.Module):
    """Patches (B, 1, t * pt, h * ph, w * pw) to quantised tokens (B, t, h, w, E).

    In the published code the convolution in front of the attention over depth takes the tokens in the order (h, w, t)
    for (t, h, w): on a cube of tokens it convolves over (h, w, t), on other sizes it mixes places. Here it convolves
    over (h, w, t) on every size.
    """

    def __init__(
        self,
        dims: int,
        spatial_depth: int,
        temporal_depth: int,
        num_heads: int,
        head_dims: int,
        patch_size: tuple[int, int, int],
        codebook_size: int,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        voxels = patch_size[0] * patch_size[1] * patch_size[2]
        self.spatial_rel_pos_bias = PositionBias(dims, num_heads)
        # The first part arranges the voxels in the checkpoint's model.
        self.to_patch_emb = nn.Sequential(
            nn.Identity(), nn.LayerNorm(voxels), nn.Linear(voxels, dims), nn.LayerNorm(dims)
        )
        self.enc_spatial_transformer = Layers(dims, spatial_depth, num_heads, head_dims)
        self.enc_temporal_transformer = Layers(dims, temporal_depth, num_heads, head_dims)
        self.vq = nn.ModuleDict({"_codebook": Codebook(dims, codebook_size)})

    def forward(self, volume_B1TYX: Tensor) -> Tensor:
        (pt, ph, pw), (t, h, w) = self.patch_size, (s // p for s, p in zip(volume_B1TYX.shape[2:], self.patch_size))
        patches = volume_B1TYX.reshape(-1, t, pt, h, ph, w, pw).permute(0, 1, 3, 5, 2, 4, 6).flatten(4)
        tokens_BthwE = self.to_patch_emb(patches)
        tokens_BthwE = self.enc_spatial_transformer(tokens_BthwE, 2, self.spatial_rel_pos_bias(h, w))
        tokens_BhwtE = self.enc_temporal_transformer(tokens_BthwE.permute(0, 2, 3, 1, 4), 1)
        return self.vq["_codebook"](tokens_BhwtE.permute(0, 3, 1, 2, 4))
