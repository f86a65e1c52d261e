"""Building blocks of the encoders."""

from ctvlm.models.layers.attention_pool import AttentionPool
from ctvlm.models.layers.hierarchical_patch_embedding import HierarchicalPatchEmbedding
from ctvlm.models.layers.init import init_vit, scale_residual_
from ctvlm.models.layers.masked_softmax import masked_softmax
from ctvlm.models.layers.mlp import MLP
from ctvlm.models.layers.patch_cells import patch_cells
from ctvlm.models.layers.patch_embedding import ThreeDPatchEmbedding, check_channels, grid_of
from ctvlm.models.layers.position import (
    LearnedPosition3D,
    Position3D,
    RotaryPosition3D,
    SinCosPosition3D,
    apply_rotary,
)
from ctvlm.models.layers.post_norm_block import PostNormBlock
from ctvlm.models.layers.transformer_block import ThreeDTransformerBlock

__all__ = [
    "AttentionPool",
    "HierarchicalPatchEmbedding",
    "MLP",
    "LearnedPosition3D",
    "Position3D",
    "PostNormBlock",
    "RotaryPosition3D",
    "SinCosPosition3D",
    "ThreeDPatchEmbedding",
    "ThreeDTransformerBlock",
    "apply_rotary",
    "check_channels",
    "grid_of",
    "init_vit",
    "masked_softmax",
    "patch_cells",
    "scale_residual_",
]
