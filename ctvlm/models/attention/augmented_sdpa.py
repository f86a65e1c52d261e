"""Scaled dot-product attention with an additive bias of low rank, in O(N) memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# The exponential of the difference to any real score is 0. It is finite, because a row whose keys are all masked would
# be NaN with -inf.
MASKED_SCORE = -1e30
# Entry of the queries in the mask column. Exact in every dtype; needed for float16, whose maximum is 65,504.
MASK_QUERY = 2.0**15
# Measured on CPU, N = 4,096: 80 columns 1.12x, 81 columns 1.30x. GPU kernels need multiples of 8.
COLUMN_MULTIPLE = 16
# Largest number of keys for which a CPU computes the scores of all pairs in float32 or float64. It is faster there than
# the fused kernel, which computes them again in the backward pass and needs values as wide as queries.
DENSE_KEYS = 256


def augmented_sdpa(
    q_BKNc: Tensor,
    k_BKMc: Tensor,
    v_BKMc: Tensor,
    query_columns: Tensor | None = None,
    key_columns: Tensor | None = None,
    key_mask_BM: Tensor | None = None,
) -> Tensor:
    """``softmax(q k' / sqrt(c) + query_columns key_columns' + mask) v`` in O(N) memory, see ``DENSE_KEYS``.

    The columns are appended to queries and keys. The values are padded with zeros to the same width, because the fused
    kernel requires equal widths. The result is exact and differentiable in the columns. The mask is one more column,
    whose product is so low for masked keys that their weight is exactly 0.

    In float16 the mask's product is limited to ``-2e9 / sqrt(c)``, which is far below any score of finite features.

    Returns:
        (B, K, N, c); 0 with a gradient of 0 if all keys of a case are masked.

    Args:
        query_columns: (B or 1, K or 1, N, m), broadcast over batch and heads.
        key_columns: (B or 1, K or 1, M, m).
        key_mask_BM: False for keys that are masked.
    """
    if query_columns is None and key_mask_BM is None:
        return F.scaled_dot_product_attention(q_BKNc, k_BKMc, v_BKMc)
    batch, heads, num_queries, width = q_BKNc.shape
    scale = width**-0.5
    dense = _is_dense(k_BKMc)
    if dense:
        q_BKNc, scale = q_BKNc * scale, 1.0
    q_parts, k_parts = [q_BKNc], [k_BKMc]
    if query_columns is not None and key_columns is not None:
        # SDPA multiplies the whole product by the scale, so the columns are divided by it beforehand.
        q_parts.append(_expand(query_columns if dense else query_columns / scale, q_BKNc))
        k_parts.append(_expand(key_columns, k_BKMc))
    if key_mask_BM is not None:
        masked_B1M1 = ~key_mask_BM[:, None, :, None]
        q_parts.append(q_BKNc.new_full((1, 1, 1, 1), MASK_QUERY).expand(batch, heads, num_queries, 1))
        penalty_B1M1 = torch.zeros_like(masked_B1M1, dtype=k_BKMc.dtype).masked_fill(masked_B1M1, _lowest(k_BKMc))
        k_parts.append(_expand(penalty_B1M1, k_BKMc))
    if dense:
        values = v_BKMc if key_mask_BM is None else v_BKMc.masked_fill(masked_B1M1, 0.0)
        return (torch.cat(q_parts, dim=-1) @ torch.cat(k_parts, dim=-1).mT).softmax(dim=-1) @ values

    extra = sum(part.shape[-1] for part in q_parts[1:])
    padding = -(width + extra) % COLUMN_MULTIPLE
    if padding:
        zero = q_BKNc.new_zeros(1, 1, 1, 1)
        q_parts.append(zero.expand(batch, heads, num_queries, padding))
        k_parts.append(zero.expand(batch, heads, k_BKMc.shape[2], padding))
    values = F.pad(v_BKMc, (0, extra + padding))
    if key_mask_BM is not None:
        # The weights of masked keys are 0 unless all keys are masked; this makes the output 0 there, too.
        values = values.masked_fill_(masked_B1M1, 0.0)
    out_BKNc = F.scaled_dot_product_attention(
        torch.cat(q_parts, dim=-1), torch.cat(k_parts, dim=-1), values, scale=scale
    )
    return out_BKNc[..., :width]


def _is_dense(keys: Tensor) -> bool:
    """Whether the scores of all pairs are computed. A compiled graph would depend on the number of keys."""
    if keys.device.type != "cpu" or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    return keys.dtype in (torch.float32, torch.float64) and keys.shape[2] <= DENSE_KEYS


def _lowest(keys: Tensor) -> float:
    """``MASKED_SCORE``, or the lowest number of the dtype that autocast will give to the keys."""
    device = keys.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else keys.dtype
    return max(MASKED_SCORE, torch.finfo(dtype).min)


def _expand(columns: Tensor, like_BKNc: Tensor) -> Tensor:
    return columns.to(like_BKNc.dtype).expand(*like_BKNc.shape[:3], columns.shape[-1])
