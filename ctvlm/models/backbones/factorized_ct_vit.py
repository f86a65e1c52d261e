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

    def __init__(self, spatial_depth: int = 4, temporal_depth: int = 4, block: dict | None = None, **kwargs) -> None:
        given: list[str] = [name for name in ("depth", "region_layer") if name in kwargs]
        given += [f"block.{name}" for name in ("attention", "region_attention", "overrides") if name in (block or {})]
        if given:
            raise ValueError(
                f"FactorizedCTViT: found {', '.join(given)}, but its blocks are fixed. Set spatial_depth and "
                "temporal_depth, or configure ThreeDVisionEncoder."
            )
        depth = spatial_depth + temporal_depth
        block = {**(block or {}), "attention": dict(type="SliceWindowAttention"), "region_attention": None}
        if temporal_depth:
            temporal = dict(blocks=list(range(spatial_depth, depth)), attention=dict(type="ColumnAttention"))
            block["overrides"] = [temporal]
        super().__init__(depth=depth, block=block, **kwargs)
