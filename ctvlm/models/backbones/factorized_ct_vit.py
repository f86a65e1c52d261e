"""The spatial-then-temporal transformer of CT-ViT, as a baseline."""

from __future__ import annotations

from ctvlm.models.backbones.three_d_vision_encoder import ThreeDVisionEncoder
from ctvlm.registry import BACKBONES


@BACKBONES.register_module()
class FactorizedCTViT(ThreeDVisionEncoder):
    """``spatial_depth`` blocks within each slice, then ``temporal_depth`` blocks along z; no attention to regions.

    Regions are still pooled at the end, so that region losses can be compared. Other arguments as in
    ThreeDVisionEncoder. After CT-ViT of GenerateCT (Hamamci et al., 2023).
    """

    def __init__(self, spatial_depth: int = 4, temporal_depth: int = 4, **kwargs) -> None:
        for name in ("depth", "attention", "region_attention", "region_layer"):
            if name in kwargs:
                raise ValueError(
                    f"FactorizedCTViT has no argument {name!r}: its blocks are fixed; set spatial_depth and "
                    "temporal_depth, or configure ThreeDVisionEncoder"
                )
        attention = [dict(type="SliceWindowAttention")] * spatial_depth + [
            dict(type="ColumnAttention")
        ] * temporal_depth
        depth = spatial_depth + temporal_depth
        super().__init__(depth=depth, attention=attention, region_attention=None, **kwargs)
