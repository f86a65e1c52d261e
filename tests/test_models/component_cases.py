"""Small inputs for every registered part of a vision model, so that a new component is tested for free.

A constructor gets those of ``SIZES`` that it names. ``VARIANTS`` lists settings worth a case of their own;
``INPUTS`` names the components of a kind whose ``forward`` takes something else than its kind's usual input.
"""

import dataclasses
import inspect

import torch

import ctvlm.models  # noqa: F401  (registers everything)
from ctvlm.registry import ATTENTION, BACKBONES, HEADS, LAYERS, NECKS, REGION_ENCODERS
from ctvlm.structures import EncoderOutput, TokenContext

REGISTRIES = {r.name: r for r in (LAYERS, ATTENTION, REGION_ENCODERS, BACKBONES, NECKS, HEADS)}
WIDTH, HEADS_, REGIONS, CHANNELS = 24, 2, 5, 3
GRIDS = [(1, 1, 1), (2, 3, 2), (5, 2, 3)]
SIZES = dict(
    embed_dims=WIDTH,
    in_dims=WIDTH,
    out_dims=16,
    head_dims=12,
    num_heads=HEADS_,
    num_regions=REGIONS,
    in_channels=CHANNELS,
    patch_size=(2, 4, 4),
    img_size=(4, 12, 8),
    base_grid=(2, 3, 2),
    depth=2,
    spatial_depth=1,
    temporal_depth=1,
    model_name="test_resnet",
    slices_per_token=2,
    attention=None,
)
VARIANTS = {
    "HierarchicalPatchEmbedding": [dict(merges=((1, 2, 2), (2, 2, 2)), widths=(8,))],
    "SliceAwareAttention": [
        {},
        dict(backend="dense"),
        dict(distance_unit="mm", max_distance=4),
    ],
    "SliceWindowAttention": [{}, dict(window=3, shift=1)],
    "LearnedRegionEncoder": [{}, dict(teacher=0.5)],
    "VolumeProjection": [{}, dict(hidden_dims=8)],
    "ClassificationHead": [dict(names=("a", "b"), pooling=dict(type="VolumePooling", mode="attention"))],
    "RegionPooling": [{}, dict(mode="attention")],
    "VolumePooling": [{}, dict(mode="attention", num_heads=2)],
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
            attention=dict(type="SliceWindowAttention"),
            global_attention=dict(type="FullAttention"),
            global_blocks=(1,),
            drop_path=0.2,
        ),
        dict(attention=dict(type="AxialAttention"), region_attention=None, token_selection="body"),
    ],
    "FactorizedCTViT": [{}, dict(token_selection="body")],
    # timm starts each residual branch of a ResNet at zero, where its inner weights have no gradient yet.
    "SliceWiseTimm": [
        dict(model_kwargs=dict(zero_init_last=False)),
        dict(model_name="test_vit", model_kwargs=dict(dynamic_img_size=True)),
    ],
}
INPUTS = {
    "ThreeDPatchEmbedding": "volume",
    "HierarchicalPatchEmbedding": "volume",
    "ThreeDTransformerBlock": "tokens_and_context",
    "PostNormBlock": "tokens_and_context",
    "SinCosPosition3D": "grid_and_tokens",
    "LearnedPosition3D": "grid_and_tokens",
    "RotaryPosition3D": "context",
    "RegionLogitsHead": "encoder_output",
    "VoxelSegmentationHead": "encoder_output_and_hu",
    "ClassificationHead": "encoder_output",
}
USUAL_INPUT = {
    "layer": "tokens",
    "attention": "tokens_and_context",
    "region_encoder": "tokens_map_context",
    "backbone": "volume_map_spacing",
    "neck": "encoder_output",
    "head": "tokens",
}


# They read texts: their own tests are in test_heads/test_generation.py.
READ_TEXTS = ("CoTGenerationHead", "PrefixGenerationHead")


def all_cases():
    """(kind, name, variant) of every component that ctvlm itself registers."""
    cases = []
    for kind, registry in REGISTRIES.items():
        for name, cls in registry.module_dict.items():
            if cls.__module__.startswith("ctvlm.") and name not in READ_TEXTS:
                cases += [(kind, name, variant) for variant in VARIANTS.get(name, [{}])]
    return cases


def case_id(case):
    kind, name, variant = case
    values = [v if isinstance(v, str) else k for k, v in variant.items()]
    return "-".join([kind, name, *map(str, values)])


def build(kind, name, variant):
    torch.manual_seed(0)
    cls = REGISTRIES[kind].get(name)
    names = {p for c in cls.__mro__ if c.__module__.startswith("ctvlm.") for p in inspect.signature(c).parameters}
    if name == "FactorizedCTViT":
        names -= {"depth", "attention"}
    sizes = {k: v for k, v in SIZES.items() if k in names}
    return REGISTRIES[kind].build(dict(type=name, **{**sizes, **variant}))


def random_context(batch, grid, padded=False, dtype=torch.float32):
    """A context with regions; ``padded`` keeps about half of the patches, unlike numbers per case."""
    spacing_B3 = torch.rand(batch, 3, dtype=dtype) * 4 + 1
    ctx = TokenContext.full(batch, grid, spacing_B3)
    if padded:
        cells = ctx.num_cells
        kept = max(1, cells // 2 + 1)
        index = torch.stack([torch.randperm(cells)[:kept] for _ in range(batch)])
        lengths = torch.tensor([max(1, kept - i) for i in range(batch)])
        ctx = TokenContext(grid, index, torch.arange(kept)[None] < lengths[:, None], spacing_B3)
    tokens = ctx.index_BN.shape[1]
    assignment = torch.rand(batch, tokens, REGIONS + 1, dtype=dtype).softmax(dim=-1)
    return ctx.with_regions(assignment, torch.randn(batch, REGIONS, WIDTH, dtype=dtype))


def random_output(batch, grid, dtype=torch.float32):
    ctx = random_context(batch, grid, dtype=dtype)
    shape = (batch, ctx.num_cells, WIDTH)
    mask = torch.rand(batch, ctx.num_cells) > 0.3
    mask[:, 0] = True
    tokens = torch.randn(shape, dtype=dtype) * mask[..., None]
    levels = [torch.randn(shape, dtype=dtype), tokens]
    regions = torch.randn(batch, REGIONS, WIDTH, dtype=dtype)
    logits = torch.randn(*shape[:2], REGIONS + 1, dtype=dtype)
    return EncoderOutput(tokens, mask, ctx.positions_BN3, regions, ctx.patch_to_region_BNR1, grid, levels, logits)


def body_volume(batch, size):
    """Random tissue in the middle of the plane, air around it (in every channel), lung inside."""
    volume = torch.rand(batch, CHANNELS, *size) + 0.05
    for axis in (3, 4):
        edge = size[axis - 2] // 4
        volume.narrow(axis, 0, edge).zero_()
        volume.narrow(axis, size[axis - 2] - edge, edge).zero_()
    return volume


def make_inputs(kind, name, component, batch, grid, with_map=True):
    """Positional arguments of ``forward``."""
    torch.manual_seed(1)
    tokens = torch.randn(batch, grid[0] * grid[1] * grid[2], WIDTH)
    ctx = random_context(batch, grid)
    patch = getattr(component, "patch_size", SIZES["patch_size"])
    size = tuple(g * p for g, p in zip(grid, patch))
    region_map = torch.randint(0, REGIONS + 1, (batch, *size)) if with_map else None
    return dict(
        tokens=lambda: (tokens,),
        tokens_and_context=lambda: (tokens, ctx),
        context=lambda: (ctx,),
        grid_and_tokens=lambda: (grid, tokens),
        tokens_map_context=lambda: (tokens, region_map, ctx),
        volume=lambda: (body_volume(batch, size),),
        volume_map_spacing=lambda: (body_volume(batch, size), region_map, torch.rand(batch, 3) + 0.5),
        encoder_output=lambda: (random_output(batch, grid),),
        encoder_output_and_hu=lambda: (random_output(batch, grid), torch.randn(batch, 1, *size) * 400),
    )[INPUTS.get(name, USUAL_INPUT[kind])]()


def tensors_of(output):
    """Every floating tensor of an output, whatever its container."""
    if isinstance(output, torch.Tensor):
        return [output] if output.is_floating_point() else []
    if dataclasses.is_dataclass(output):
        output = [getattr(output, f.name) for f in dataclasses.fields(output)]
    if isinstance(output, (list, tuple)):
        return [tensor for item in output for tensor in tensors_of(item)]
    return []


def loss_of(output):
    """A scalar that every entry of the output moves differently."""
    generator = torch.Generator().manual_seed(2)
    return sum(
        (tensor * torch.randn(tensor.shape, generator=generator)).sum() / tensor.numel() ** 0.5
        for tensor in tensors_of(output)
    )
