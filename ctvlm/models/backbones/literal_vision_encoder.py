"""The spec's encoder with its literal parts."""

from __future__ import annotations

from ctvlm.models.backbones.three_d_vision_encoder import ThreeDVisionEncoder
from ctvlm.registry import BACKBONES


@BACKBONES.register_module()
class LiteralVisionEncoder(ThreeDVisionEncoder):
    """ThreeDVisionEncoder with the spec's literal parts, each of which a config can replace.

    Conv3d patches of one intensity window, learned positions, region embeddings from a CNN over the map, and blocks
    of slice-aware attention, region-aware attention and MLP with Add & Norm, all of them with region attention.
    ``ctvlm.models.literal`` has the same parts under the spec's names and signatures. Arguments and errors as
    ThreeDVisionEncoder.

    Raises:
        MemoryError: see MaskCNNRegionEncoder.
    """

    def __init__(
        self,
        in_channels: int = 1,
        attention: dict | None = None,
        region_encoder: dict | None = None,
        region_attention: dict | None = None,
        use_checkpoint: bool = False,
        **sizes,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            patch_embed=dict(type="ThreeDPatchEmbedding"),
            position="learned",
            block=dict(type="PostNormBlock"),
            attention=attention or dict(type="LiteralSliceAwareAttention"),
            region_encoder=region_encoder or dict(type="MaskCNNRegionEncoder"),
            region_attention=region_attention or dict(type="LiteralRegionAwareAttention"),
            region_layer=0,
            use_checkpoint=use_checkpoint,
            **sizes,
        )
