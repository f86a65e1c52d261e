"""Variants of every registered component of a vision model, and the contract check of each."""

from __future__ import annotations

import ctvlm.models  # noqa: F401  (registers everything)
from ctvlm import testing
from ctvlm.registry import ATTENTION, BACKBONES, HEADS, LAYERS, NECKS, REGION_ENCODERS
from ctvlm.testing import NOT_SET
from ctvlm.testing.building import REGIONS, WIDTH
from ctvlm.testing.inputs import body_volume, random_context, random_output

__all__ = ["REGIONS", "WIDTH", "body_volume", "random_context", "random_output"]

REGISTRIES = {r.name: r for r in (LAYERS, ATTENTION, REGION_ENCODERS, BACKBONES, NECKS, HEADS)}
# Check of each kind; components that need another one are in CHECKS.
USUAL_CHECK = {
    "layer": testing.check_layer,
    "attention": testing.check_attention,
    "region_encoder": testing.check_region_encoder,
    "backbone": testing.check_backbone,
    "neck": testing.check_neck,
    "head": testing.check_projection,
}
CHECKS = {
    "ThreeDPatchEmbedding": testing.check_patch_embedding,
    "HierarchicalPatchEmbedding": testing.check_patch_embedding,
    "ThreeDTransformerBlock": testing.check_block,
    "PostNormBlock": testing.check_block,
    "SinCosPosition3D": testing.check_position,
    "LearnedPosition3D": testing.check_position,
    "RotaryPosition3D": testing.check_position,
    "RegionLogitsHead": testing.check_head,
    "VoxelSegmentationHead": testing.check_head,
    "ClassificationHead": testing.check_head,
    "SegmentationHead": testing.check_head,
}
# Tested in test_heads/, test_backbones/test_pretrained_tower.py and test_vlms/test_cot_contrastive_vlm.py.
TESTED_ELSEWHERE = (
    "CoTGenerationHead",
    "MaskedPatchDecoder",
    "PointSegmentationHead",
    "PrefixGenerationHead",
    "PretrainedTower",
    "SharedSpace",
)

VARIANTS: dict[str, list[dict]] = {
    "HierarchicalPatchEmbedding": [
        dict(merges=((1, 2, 2), (2, 2, 2)), widths=(8,)),
        dict(merges=((1, 2, 2), (2, 2, 2)), widths=(8,), norm=False, mlp_ratio=2.0),
    ],
    "SliceAwareAttention": [{}, dict(backend="dense"), dict(distance_unit="mm", max_distance=4)],
    "SliceWindowAttention": [{}, dict(window=3, shift=1)],
    "LearnedRegionEncoder": [{}, dict(map_weight=0.5)],
    "VolumeProjection": [{}, dict(hidden_dims=8)],
    "ClassificationHead": [dict(names=("a", "b"), pooling=dict(type="VolumePooling", mode="attention"))],
    "RegionPooling": [{}, dict(mode="attention")],
    "VolumePooling": [{}, dict(mode="attention", num_heads=2), dict(mode="attention", with_regions=True)],
    "ThreeDTransformerBlock": [
        dict(attention=dict(type="SliceAwareAttention"), region_attention=dict(type="RegionAwareAttention"))
    ],
    "PostNormBlock": [
        dict(
            attention=dict(type="LiteralSliceAwareAttention"),
            region_attention=dict(type="LiteralRegionAwareAttention"),
        )
    ],
    "ThreeDVisionEncoder": [
        {},
        dict(position="learned", out_layers=(0, 1)),
        dict(position="rotary", token_selection="body"),
        dict(token_selection="body", region_encoder=dict(type="LearnedRegionEncoder")),
        dict(region_encoder=dict(type="NullRegionEncoder")),
        dict(region_encoder=dict(type="HardOverlapRegionEncoder")),
        dict(
            block=dict(
                num_heads=2,
                attention=dict(type="SliceWindowAttention"),
                overrides=[dict(blocks=[1], attention=dict(type="FullAttention"))],
                drop_path=0.2,
            )
        ),
        dict(
            block=dict(num_heads=2, attention=dict(type="AxialAttention"), region_attention=None),
            token_selection=dict(type="body", channel=0),
        ),
    ],
    "FactorizedCTViT": [
        dict(spatial_depth=1, temporal_depth=1, depth=NOT_SET),
        dict(spatial_depth=1, temporal_depth=1, depth=NOT_SET, token_selection="body"),
    ],
    # timm starts each residual branch of a ResNet at zero, where its inner weights have no gradient yet.
    "SliceWiseTimm": [
        dict(model_name="test_resnet", slices_per_token=2, model_kwargs=dict(zero_init_last=False)),
        dict(model_name="test_vit", slices_per_token=2, model_kwargs=dict(dynamic_img_size=True)),
    ],
}


def all_cases() -> list[tuple[str, str, dict]]:
    """(kind, name, variant) of every component that ctvlm itself registers."""
    cases = []
    for kind, registry in REGISTRIES.items():
        for name, cls in registry.module_dict.items():
            if cls.__module__.startswith("ctvlm.") and name not in TESTED_ELSEWHERE:
                cases += [(kind, name, variant) for variant in VARIANTS.get(name, [{}])]
    return cases


def case_id(case: tuple[str, str, dict]) -> str:
    kind, name, variant = case
    values = [v if isinstance(v, str) else k for k, v in variant.items()]
    return "-".join([kind, name, *map(str, values)])


def check(kind: str, name: str, variant: dict) -> None:
    """Run the contract check of a component."""
    CHECKS.get(name, USUAL_CHECK[kind])(name, **variant)
