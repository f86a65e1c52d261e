"""The spec's encoder with its literal parts."""

from __future__ import annotations

from ctvlm.models.backbones.three_d_vision_encoder import ThreeDVisionEncoder
from ctvlm.registry import BACKBONES

BLOCK = dict(
    type="PostNormBlock",
    attention=dict(type="LiteralSliceAwareAttention"),
    region_attention=dict(type="LiteralRegionAwareAttention"),
)


@BACKBONES.register_module()
class LiteralVisionEncoder(ThreeDVisionEncoder):
    """ThreeDVisionEncoder with the spec's literal parts as defaults; a config can replace each.

    Conv3d patches of one intensity window, learned positions, region embeddings from a CNN over the map, and blocks
    of slice-aware attention, region-aware attention and MLP with Add & Norm; all blocks attend to regions.
    ``ctvlm.models.literal`` has the same parts under the spec's names and signatures. Arguments and errors as
    ThreeDVisionEncoder.

    Raises:
        MemoryError: see MaskCNNRegionEncoder.
    """

    def __init__(
        self,
        patch_embed: dict | None = None,
        position: str | dict = "learned",
        block: dict | None = None,
        region_encoder: dict | None = None,
        region_layer: int = 0,
        **kwargs,
    ) -> None:
        super().__init__(
            patch_embed={"in_channels": 1, **(patch_embed or {})},
            position=position,
            block={**BLOCK, **(block or {})},
            region_encoder=region_encoder or dict(type="MaskCNNRegionEncoder"),
            region_layer=region_layer,
            **kwargs,
        )
