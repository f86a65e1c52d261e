"""Conversion of the weights of a 2D vision transformer for a 3D encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ctvlm.models.attention import SelfAttention
from ctvlm.models.backbones.three_d_vision_encoder import ThreeDVisionEncoder
from ctvlm.models.layers import MLP, LearnedPosition3D, ThreeDPatchEmbedding
from ctvlm.models.layers.patch_embedding import as_grid

# Imported when used: timm takes a second.
if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

# Weights of a block: timm's name to ours. Layer scales are multiplied into the linear layer before them.
BLOCK = {
    "norm1": "norm_attention",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.proj",
    "norm2": "norm_mlp",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
SCALED = {"attn.proj": "ls1.gamma", "mlp.fc2": "ls2.gamma"}
# Parameters outside the blocks that may be left out.
AROUND = ("cls_token", "reg_token", "pos_embed", "patch_embed.proj", "norm", "fc_norm", "head", "attn_pool")


def inflate_vit(
    vit: VisionTransformer, encoder: ThreeDVisionEncoder, mean: Sequence[float], std: Sequence[float]
) -> tuple[dict[str, Tensor], list[str]]:
    """Weights of ``vit`` under the encoder's names, and the names of the weights that are not used.

    Patch weights are distributed evenly over the depth of a patch (inflation of I3D, Carreira and Zisserman, 2017): a
    volume of one repeated slice has the output of the slice. If the encoder has as many input channels as ``vit``, they
    correspond by index; else each channel has an equal share of a grey image. ``mean`` and ``std`` of the images that
    ``vit`` was trained on are included in the patch weights, because the encoder's windows are in [0, 1]. Learned
    positions are interpolated to the encoder's grid and repeated over its slices; other position encodings are kept.
    Class and register tokens are left out.

    Raises:
        ValueError: the blocks of ``vit`` differ from the encoder's blocks, or the sizes differ.
    """
    check_convertible(vit)
    check_sizes(vit, encoder)
    state = vit.state_dict()
    weights = _patch_weights(state, encoder, torch.tensor(mean), torch.tensor(std))
    used = {"patch_embed.proj.weight", "patch_embed.proj.bias"}
    if vit.pos_embed is not None and isinstance(encoder.position, LearnedPosition3D):
        weights["position.table"] = _positions(vit, vit.pos_embed.detach(), as_grid(encoder.position.base_grid))
        used.add("pos_embed")
    for i in range(len(vit.blocks)):
        for old, new in BLOCK.items():
            scale = f"blocks.{i}.{SCALED.get(old)}"
            for kind in ("weight", "bias"):
                source, target = f"blocks.{i}.{old}.{kind}", f"blocks.{i}.{new}.{kind}"
                value = state.get(source, torch.zeros(encoder.get_parameter(target).shape))
                if scale in state:
                    value = value * state[scale].view(-1, *[1] * (value.ndim - 1))
                weights[target] = value.clone()
                used |= {source, scale}
    for kind in ("weight", "bias"):
        if f"norm.{kind}" in state:
            weights[f"norm.{kind}"] = state[f"norm.{kind}"].clone()
            used.add(f"norm.{kind}")
    return weights, [name for name in state if name not in used]


def check_convertible(vit: nn.Module) -> None:
    """Raise a ValueError if the network is not a pre-norm ViT with standard blocks."""
    from timm.layers import GELUTanh
    from timm.models.vision_transformer import VisionTransformer

    name = type(vit).__name__
    if not isinstance(vit, VisionTransformer):
        raise ValueError(
            f"{name} is not a VisionTransformer; expected one of timm.list_models(module='vision_transformer'), "
            "such as ViT, DeiT, DINOv2 or SigLIP. Use SliceWiseTimm for networks with rotary or relative positions, "
            "windows or convolutions in their blocks."
        )
    allowed = {f"{old}.{kind}" for old in BLOCK for kind in ("weight", "bias")} | set(SCALED.values())
    unknown = {key for block in vit.blocks for key in block.state_dict() if key not in allowed}
    known = ("blocks.", *(f"{name}." for name in AROUND))
    unknown |= {key for key in vit.state_dict() if not f"{key}.".startswith(known)}
    for block in vit.blocks:
        parts = dict(activation=getattr(getattr(block, "mlp", None), "act", None), norm=getattr(block, "norm1", None))
        wanted: dict[str, Any] = dict(activation=(nn.GELU, GELUTanh), norm=nn.LayerNorm)
        unknown |= {f"{name} {type(p).__name__}" for name, p in parts.items() if not isinstance(p, wanted[name])}
    if unknown:
        raise ValueError(
            f"this {name} has {', '.join(sorted(unknown)[:4])}, which the encoder's blocks do not have; expected "
            "pre-norm blocks of layer norm, attention with one qkv layer and an MLP with GELU"
        )


def check_sizes(vit: VisionTransformer, encoder: nn.Module) -> None:
    """Raise a ValueError if the encoder's sizes differ; it states all keys that the config must change."""
    if not isinstance(encoder, ThreeDVisionEncoder) or not isinstance(encoder.patch_embed, ThreeDPatchEmbedding):
        part = type(getattr(encoder, "patch_embed", encoder)).__name__
        raise ValueError(f"found {part}; expected ThreeDVisionEncoder with ThreeDPatchEmbedding")
    unknown = {type(b.attention).__name__ for b in encoder.blocks if not isinstance(b.attention, SelfAttention)}
    unknown |= {type(b.mlp).__name__ for b in encoder.blocks if not isinstance(b.mlp, MLP)}
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))}: expected attention with one qkv and one proj, and MLP")
    here: Any = encoder.blocks[0]
    there: Any = vit.blocks[0]
    sizes = {
        "embed_dims": (encoder.embed_dims, vit.embed_dim),
        "depth": (len(encoder.blocks), len(vit.blocks)),
        "block.num_heads": (here.attention.num_heads, there.attn.num_heads),
        "block.mlp_ratio": (here.mlp.fc1.out_features / encoder.embed_dims, there.mlp.fc1.out_features / vit.embed_dim),
    }
    wrong = [f"{name}={theirs} (found {ours})" for name, (ours, theirs) in sizes.items() if ours != theirs]
    wrong += ["qkv_bias=True in its attention"] if here.attention.qkv.bias is None else []
    if wrong:
        raise ValueError(f"the encoder of the config has another size. Set in model.backbone: {', '.join(wrong)}")


def _patch_weights(
    state: dict[str, Tensor], encoder: ThreeDVisionEncoder, mean_C: Tensor, std_C: Tensor
) -> dict[str, Tensor]:
    from timm.layers import resample_patch_embed

    embed = encoder.patch_embed
    weight_ECHW = state["patch_embed.proj.weight"].float()
    channels = weight_ECHW.shape[1]
    mean_C, std_C = (x.float().expand(channels) if len(x) == 1 else x.float()[:channels] for x in (mean_C, std_C))
    depth, *plane = embed.patch_size
    if list(plane) != list(weight_ECHW.shape[2:]):
        weight_ECHW = resample_patch_embed(weight_ECHW, list(plane))
    weight_ECHW = weight_ECHW / std_C[:, None, None]
    bias_E = state.get("patch_embed.proj.bias", torch.zeros(len(weight_ECHW)))
    bias_E = bias_E - (weight_ECHW * mean_C[:, None, None]).sum(dim=(1, 2, 3))
    if embed.in_channels != channels:
        weight_ECHW = weight_ECHW.sum(dim=1, keepdim=True).expand(-1, embed.in_channels, -1, -1) / embed.in_channels
    # Compensates the normalisation that the encoder applies to its windows.
    bias_E = bias_E + (weight_ECHW * encoder.mean.view(-1, 1, 1)).sum(dim=(1, 2, 3))
    weight_ECHW = weight_ECHW * encoder.std.view(-1, 1, 1)
    weight_ECDHW = weight_ECHW[:, :, None].expand(-1, -1, depth, -1, -1) / depth
    return {"patch_embed.proj.weight": weight_ECDHW.contiguous(), "patch_embed.proj.bias": bias_E}


def _positions(vit: VisionTransformer, positions_1NE: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Learned positions on the encoder's grid (1, E, d, h, w)."""
    from timm.layers import resample_abs_pos_embed

    prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
    d, h, w = grid
    pos_1NE = resample_abs_pos_embed(
        positions_1NE[:, prefix:], [h, w], old_size=list(vit.patch_embed.grid_size), num_prefix_tokens=0
    )
    return pos_1NE.transpose(1, 2).unflatten(2, (1, h, w)).expand(-1, -1, d, -1, -1).contiguous()
