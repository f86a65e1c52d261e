"""The vision encoder compiles as one graph, with equal results and unchanged keys."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from ctvlm.engine import load_config
from ctvlm.engine.compile_encoder import compile_backbone, compile_encoder
from ctvlm.models.backbones.body_selection import kept_index
from ctvlm.registry import BACKBONES, MODELS
from ctvlm.structures import CTDataSample
from ctvlm.utils import CTVLMError
from tests.test_configs import shrink

SIZE = (4, 32, 32)


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def build(selection="body", region_encoder="SoftOverlapRegionEncoder", checkpoint=False) -> nn.Module:
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type="CoTContrastiveVLM",
            backbone=dict(
                type="ThreeDVisionEncoder",
                img_size=SIZE,
                embed_dims=24,
                depth=2,
                num_regions=5,
                patch_embed=dict(patch_size=(2, 4, 4)),
                block=dict(num_heads=2, use_checkpoint=checkpoint),
                region_encoder=dict(type=region_encoder),
                region_layer=1,
                token_selection=selection,
            ),
            text_encoder=dict(type="CompactTextEncoder", vocab_size=64, embed_dims=16, depth=1, num_heads=2),
            losses=dict(volume=dict(type="CrossModalContrastiveLoss")),
        )
    )


def batch(size, with_map=True, radius=0.6):
    """Bodies whose radius grows with the case."""
    z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in SIZE), indexing="ij")
    radii = torch.linspace(0.4, radius, size)
    volume = torch.stack([torch.where((y**2 + x**2).sqrt() < radius, 50, -1000) for radius in radii])
    maps = torch.randint(-1, 6, (size, *SIZE), generator=torch.Generator().manual_seed(1)) if with_map else None
    return dict(volume=volume[:, None].short(), region_map=maps, spacing=torch.ones(size, 3))


def outputs(model, inputs):
    """Values and gradients."""
    model.zero_grad()
    encoded = model(inputs, [CTDataSample()] * len(inputs["volume"]), mode="tensor")
    (encoded.tokens.square().mean() + encoded.region_tokens.square().mean()).backward()
    grads = {name: p.grad.clone() for name, p in model.backbone.named_parameters() if p.grad is not None}
    return dict(tokens=encoded.tokens, mask=encoded.token_mask, regions=encoded.region_tokens, **grads)


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("with_map", [True, False])
@pytest.mark.parametrize("region_encoder", ["SoftOverlapRegionEncoder", "LearnedRegionEncoder"])
@pytest.mark.parametrize("selection", ["none", "body"])
def test_one_graph_with_equal_results(selection, region_encoder, with_map, checkpoint):
    model = build(selection, region_encoder, checkpoint).train()
    compiled = copy.deepcopy(model)
    # The capture of the graph is what can fail; code generation takes minutes.
    counter = CompileCounterWithBackend("eager")
    compile_encoder(compiled, backend=counter)
    assert compiled.state_dict().keys() == model.state_dict().keys()
    for size, radius in ((2, 0.6), (3, 0.7), (5, 0.6), (4, 2.0)):  # the last volume of the last batch has no air
        inputs = batch(size, with_map, radius)
        expected, found = outputs(model, inputs), outputs(compiled, inputs)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-4, msg=name)
    # The first batch, and undetermined sizes.
    assert counter.frame_count <= 2
    # A copy, such as that of an average of weights, uses its own weights.
    average = copy.deepcopy(compiled)
    for parameter in average.parameters():
        parameter.data.zero_()
    assert outputs(average, inputs)["tokens"].abs().max() == 0


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize(
    "region_encoder", ["SoftOverlapRegionEncoder", "HardOverlapRegionEncoder", "MaskCNNRegionEncoder"]
)
@pytest.mark.parametrize("selection", ["none", "body"])
def test_encoder_alone_is_one_graph(selection, region_encoder, dynamic):
    """Without the model, which computes the overlap with the regions before the graph."""
    encoder = build(selection, region_encoder).backbone
    compiled = copy.deepcopy(encoder)
    compiled.compile(fullgraph=True, backend="eager", dynamic=dynamic)
    for size in (2, 3):
        inputs = batch(size)
        volume_BCDHW = inputs["volume"].float().clamp(-1000, 1000).add(1000).div(2000).repeat(1, 3, 1, 1, 1)
        found, expected = (e(volume_BCDHW, inputs["region_map"], inputs["spacing"]) for e in (compiled, encoder))
        torch.testing.assert_close(found.tokens, expected.tokens, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.region_tokens, expected.region_tokens, atol=1e-5, rtol=1e-4)
        wrong = inputs["region_map"].clone()
        wrong[0, 0, 0, 0] = 6
        assert compiled(volume_BCDHW, wrong, inputs["spacing"]).tokens[0].isnan().any()


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        *("vit3d_cot_contrastive", "vit3d_cot_contrastive_bare", "vit3d_cot_contrastive_small"),
        *("vit3d_cot_contrastive_base", "vit3d_cot_contrastive_base_windows", "ablations/no_slice_bias"),
        *("ablations/literal", "baselines/slice_windows", "baselines/factorized_ct_vit"),
    ],
)
def test_encoders_of_configs_are_one_graph(config, repo_root):
    backbone = shrink(load_config(repo_root / "configs" / f"{config}.py").model.backbone)
    patch_embed = backbone.patch_embed
    size = backbone.img_size = tuple(4 * length for length in patch_embed.patch_size)
    encoder = BACKBONES.build(backbone).train()
    compiled = copy.deepcopy(encoder)
    compile_backbone(compiled, backend="eager")
    volume_BCDHW, region_map_BDHW = torch.rand(2, patch_embed.in_channels, *size), torch.randint(0, 6, (2, *size))
    gradients = []
    for module in (encoder, compiled):
        torch.manual_seed(0)
        # Half of the features: the norm fixes the mean square of all.
        module(volume_BCDHW, region_map_BDHW).tokens[..., ::2].square().mean().backward()
        gradients.append({name: p.grad for name, p in module.named_parameters() if p.grad is not None})
    assert max(gradient.abs().max() for gradient in gradients[0].values()) > 1e-3
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(("kept", "patches", "tokens"), [(37, 100, 48), (48, 100, 48), (90, 100, 96), (97, 100, 100)])
def test_tokens_are_padded_to_a_multiple(kept, patches, tokens):
    keep_BN = torch.zeros(2, patches, dtype=torch.bool)
    keep_BN[0, :kept], keep_BN[1, 3:5] = True, True
    index_Bn, mask_Bn = kept_index(keep_BN, multiple=16)
    assert index_Bn.shape == (2, tokens)
    assert mask_Bn.sum(dim=1).tolist() == [kept, 2]
    assert all(row.unique().numel() == tokens for row in index_Bn)


def test_other_encoders_and_machines_are_one_line(monkeypatch):
    model = build()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CTVLMError, match=r"C\+\+ compiler"):
        compile_encoder(model)
    model.backbone = nn.Identity()
    with pytest.raises(CTVLMError, match="Identity"):
        compile_encoder(model)
