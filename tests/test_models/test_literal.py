"""The spec's classes, from its own signatures, against plain implementations that share no code with them."""

import copy
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ctvlm.datasets.transforms import PackCTInputs
from ctvlm.engine import load_config
from ctvlm.models import literal
from ctvlm.models.attention import LiteralRegionAwareAttention, LiteralSliceAwareAttention
from ctvlm.models.layers import LearnedPosition3D, PostNormBlock, ThreeDPatchEmbedding
from ctvlm.models.losses import FixedTemperatureContrastiveLoss
from ctvlm.models.region_encoders import MaskCNNRegionEncoder
from ctvlm.phantom import PhantomCT
from ctvlm.registry import MODELS
from tests.test_models.component_cases import random_context

CONFIG = Path(__file__).parents[2] / "configs/ablations/literal.py"
GRID, PATCH, SIZE = (3, 2, 2), (2, 4, 4), (6, 8, 8)
DIM, HEADS, REGIONS = 12, 2, 4
SLICES = torch.arange(3).repeat_interleave(4)


def randomised(module: nn.Module) -> nn.Module:
    """In double precision, with every parameter random: nothing is hidden by zeros and ones."""
    torch.manual_seed(0)
    module.double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def same(module: nn.Module, inputs: list[torch.Tensor], plain) -> None:
    """Equal values, and equal gradients for every parameter and floating input."""
    leaves = [x.requires_grad_() for x in inputs if x.is_floating_point()] + list(module.parameters())
    outputs = [module(*inputs), plain(*inputs)]
    if isinstance(outputs[0], dict):
        assert list(outputs[0]) == list(outputs[1])
        outputs = [torch.cat([x.flatten() for x in out.values()]) for out in outputs]
    torch.testing.assert_close(*outputs)
    weight = torch.randn_like(outputs[0])
    grads = [torch.autograd.grad((out * weight).sum(), leaves) for out in outputs]
    for a, b in zip(*grads):
        assert a.abs().sum() > 0
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def region_mask(batch: int = 2) -> torch.Tensor:
    """Ids 0..R, each of them in every case."""
    mask = torch.randint(0, REGIONS + 1, (batch, *SIZE))
    mask[:, 0, 0, : REGIONS + 1] = torch.arange(REGIONS + 1)
    return mask


# The spec, written a second time.


def plain_patches(embed, volume):
    rows = []
    for case in volume:
        for z in range(0, SIZE[0], PATCH[0]):
            for y in range(0, SIZE[1], PATCH[1]):
                for x in range(0, SIZE[2], PATCH[2]):
                    patch = case[:, z : z + PATCH[0], y : y + PATCH[1], x : x + PATCH[2]]
                    rows.append(torch.einsum("ecdhw,cdhw->e", embed.proj.weight, patch) + embed.proj.bias)
    return torch.stack(rows).view(len(volume), -1, DIM)


def plain_region_features(encoder, mask):
    first, second, third = (layer for layer in encoder.mask_cnn if isinstance(layer, nn.Conv3d))
    x = mask[:, None].double()
    x = torch.relu(F.conv3d(x, first.weight, first.bias, padding=1))
    x = torch.relu(F.conv3d(x, second.weight, second.bias, padding=1))
    return F.conv3d(x, third.weight, third.bias, padding=1)


def plain_assignment(encoder, mask):
    features = plain_region_features(encoder, mask)
    means = F.avg_pool3d(features, PATCH).flatten(2).transpose(1, 2)
    return torch.softmax(means @ encoder.region_embedding.T / math.sqrt(DIM), dim=-1)


def plain_slice_attention(layer, x, slices):
    b, n, _ = x.shape
    q, k, v = (part.view(b, n, HEADS, -1).transpose(1, 2) for part in layer.qkv(x).split(DIM, dim=-1))
    scores = q @ k.transpose(-1, -2) / math.sqrt(DIM // HEADS)
    distance = (slices[:, None] - slices[None]).abs().clamp(max=31)
    scores = scores + 0.5 * layer.slice_bias[:, distance]
    return layer.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, DIM))


def plain_region_attention(layer, x, regions, assignment):
    b, n, _ = x.shape
    k, v = (part.view(b, REGIONS, HEADS, -1).transpose(1, 2) for part in layer.kv(regions).split(DIM, dim=-1))
    q = layer.q(x).view(b, n, HEADS, -1).transpose(1, 2)
    scores = q @ k.transpose(-1, -2) / math.sqrt(DIM // HEADS) * assignment[:, None]
    return layer.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, DIM))


def plain_norm(norm, x):
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - mean) / torch.sqrt(variance + 1e-5) * norm.weight + norm.bias


def plain_block(block, x, slices, regions, assignment):
    x = plain_norm(block.norm_attention, x + plain_slice_attention(block.attention, x, slices))
    x = plain_norm(block.norm_region, x + plain_region_attention(block.region_attention, x, regions, assignment))
    return plain_norm(block.norm_mlp, x + block.mlp.fc2(F.gelu(block.mlp.fc1(x))))


def plain_pool(features, assignment):
    return torch.einsum("bnr,bne->bre", assignment, features) / assignment.sum(1)[..., None]


def plain_encoder(model, volume, mask):
    backbone = model.backbone
    regions = backbone.region_encoder.region_embedding.expand(len(volume), -1, -1)
    assignment = plain_assignment(backbone.region_encoder, mask)
    x = plain_patches(backbone.patch_embed, volume) + backbone.position.table.flatten(2).transpose(1, 2)
    for block in backbone.blocks:
        x = plain_block(block, x, SLICES, regions, assignment)
    return {
        "global": model.volume_projection(x.mean(dim=1)),
        "local": model.patch_projection(x),
        "region": model.region_projection(plain_pool(x, assignment)),
        "patch_features": x,
    }


def plain_loss(visual, text, temperature=0.07):
    visual, text = (x / x.norm(dim=-1, keepdim=True) for x in (visual, text))
    logits = visual @ text.T / temperature
    own = torch.arange(len(visual))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def test_patch_embedding():
    embed = literal.ThreeDPatchEmbedding(img_size=SIZE, patch_size=PATCH, in_channels=1, embed_dim=DIM)
    assert (embed.grid_size, embed.num_patches) == (GRID, 12)
    same(randomised(embed), [random(2, 1, *SIZE)], lambda x: plain_patches(embed, x))


def test_anatomical_structure_encoder():
    encoder = randomised(literal.AnatomicalStructureEncoder(num_regions=REGIONS, embed_dim=DIM))
    assert [type(layer).__name__ for layer in encoder.mask_cnn] == ["Conv3d", "ReLU", "Conv3d", "ReLU", "Conv3d"]
    assert encoder.region_embedding.shape == (REGIONS, DIM)
    encoder.region_embedding.requires_grad_(False)
    mask = region_mask()
    features = encoder(mask)
    assert features.shape == (2, DIM, *SIZE)
    parameters = list(encoder.mask_cnn.parameters())
    outputs = [features, plain_region_features(encoder, mask)]
    torch.testing.assert_close(*outputs)
    weight = torch.randn_like(features)
    for a, b in zip(*(torch.autograd.grad((out * weight).sum(), parameters) for out in outputs)):
        torch.testing.assert_close(a, b)


def test_slice_aware_attention():
    layer = literal.SliceAwareAttention(dim=DIM, num_heads=HEADS, slice_distance_weight=0.5)
    assert layer.slice_bias.shape == (HEADS, 32)
    assert not layer.slice_bias.any()
    # Slices in any order, and farther apart than the table is long.
    slices = torch.tensor([7, 0, 31, 40, 0, 32, 7])
    same(randomised(layer), [random(2, 7, DIM), slices], lambda *x: plain_slice_attention(layer, *x))


def test_region_aware_attention():
    layer = randomised(literal.RegionAwareAttention(dim=DIM, num_heads=HEADS))
    inputs = [random(2, 5, DIM), random(2, REGIONS, DIM), random(2, 5, REGIONS).softmax(-1).detach()]
    same(layer, inputs, lambda *x: plain_region_attention(layer, *x))


def test_transformer_block():
    block = randomised(literal.ThreeDTransformerBlock(dim=DIM, num_heads=HEADS))
    assert block.mlp.fc1.out_features == 4 * DIM
    inputs = [random(2, 12, DIM), SLICES, random(2, REGIONS, DIM), random(2, 12, REGIONS).softmax(-1).detach()]
    same(block, inputs, lambda *x: plain_block(block, *x))


def test_region_pooling():
    pool = literal.RegionPooling()
    same(pool, [random(2, 12, DIM), random(2, 12, REGIONS).softmax(-1).detach()], plain_pool)


def test_vision_encoder():
    model = literal.ThreeDVisionEncoder(
        img_size=SIZE,
        patch_size=PATCH,
        in_channels=1,
        embed_dim=DIM,
        depth=3,
        num_heads=HEADS,
        num_regions=REGIONS,
    )
    randomised(model)
    same(model, [torch.rand(2, 1, *SIZE, dtype=torch.float64), region_mask()], lambda *x: plain_encoder(model, *x))


def test_contrastive_loss():
    loss = literal.CrossModalContrastiveLoss(temperature=0.07)
    assert not list(loss.parameters())
    same(loss, [random(5, 8), random(5, 8)], plain_loss)
    with pytest.raises(ValueError, match="temperature"):
        literal.CrossModalContrastiveLoss(temperature=0.0)


def test_shapes_at_the_defaults_of_the_spec():
    """On the meta device: 16,384 patches of 64 x 512 x 512 voxels, width 768, depth 12, 12 heads."""
    volume = torch.empty(1, 1, 64, 512, 512, device="meta")
    mask = torch.empty(1, 64, 512, 512, dtype=torch.int16, device="meta")
    with torch.device("meta"):
        encoder = literal.ThreeDVisionEncoder()
        structure = literal.AnatomicalStructureEncoder()
        patches = literal.ThreeDPatchEmbedding()
    assert structure(mask).shape == (1, 768, 64, 512, 512)
    assert patches(volume).shape == (1, 16384, 768)
    assert encoder.backbone.position.table.shape == (1, 768, 16, 32, 32)
    assert [block.attention.num_heads for block in encoder.backbone.blocks] == [12] * 12
    assert {name: tuple(x.shape) for name, x in encoder(volume, mask).items()} == {
        "global": (1, 768),
        "local": (1, 16384, 768),
        "region": (1, 20, 768),
        "patch_features": (1, 16384, 768),
    }


def test_mask_cnn_states_the_memory_it_needs():
    """51.5 GB for the last output at the spec's size, and more for the layers before it."""
    mask = torch.zeros(1, dtype=torch.int16).expand(1, 64, 512, 512)
    encoder = literal.AnatomicalStructureEncoder(max_memory_gb=16).eval()
    with pytest.raises(MemoryError, match=r"58\.0 GB .*16\.0 GB"):
        encoder(mask)
    with pytest.raises(MemoryError, match=r"116\.1 GB"):
        encoder.train()(mask)
    small = literal.AnatomicalStructureEncoder(num_regions=REGIONS, embed_dim=DIM, max_memory_gb=1e-6)
    with pytest.raises(MemoryError, match=r"max_memory_gb"):
        small(region_mask())
    small.max_memory_gb = 1
    assert small(region_mask()).shape == (2, DIM, *SIZE)


def test_available_memory_is_the_limit_where_none_is_set(monkeypatch):
    monkeypatch.setattr("ctvlm.models.region_encoders.mask_cnn.available_memory", lambda device: 1000)
    with pytest.raises(MemoryError, match="GB"):
        literal.AnatomicalStructureEncoder(num_regions=REGIONS, embed_dim=DIM)(region_mask())


def test_a_case_without_a_map_is_background_beside_one_with_a_map():
    encoder = randomised(MaskCNNRegionEncoder(DIM, REGIONS))
    mask = region_mask()
    mask[0] = -1
    mask[1][mask[1] == 2] = 0
    encoding, tokens = encoder(random(2, 12, DIM), mask, random_context(2, GRID, dtype=torch.float64))
    assert (encoding.assignment[0, :, 0] == 1).all() and not encoding.assignment[0, :, 1:].any()
    assert not encoding.assignment[1, :, 0].any()
    assert encoding.presence.tolist() == [[False] * 4, [True, False, True, True]]
    torch.testing.assert_close(tokens, encoder.region_embedding.expand(2, -1, -1))


@pytest.fixture(scope="module")
def ablation():
    cfg = load_config(CONFIG)
    model_cfg = copy.deepcopy(cfg.model)
    model_cfg.text_encoder.update(vocab_size=400, embed_dims=16, depth=1, num_heads=2)
    model_cfg.backbone.update(img_size=(8, 32, 32), embed_dims=24, depth=2)
    model_cfg.backbone.region_encoder.hidden_dims = (2, 4)
    torch.manual_seed(0)
    return MODELS.build(cfg.model), MODELS.build(model_cfg)


def test_the_ablation_resolves_to_the_spec(ablation):
    """What configs/ablations/literal.py builds, part by part."""
    model, backbone = ablation[0], ablation[0].backbone
    assert model.data_preprocessor.windows == [(40, 400)]
    assert type(backbone.patch_embed) is ThreeDPatchEmbedding
    assert type(backbone.position) is LearnedPosition3D
    assert type(backbone.region_encoder) is MaskCNNRegionEncoder
    assert [type(layer).__name__ for layer in backbone.region_encoder.mask_cnn].count("ReLU") == 2
    assert (backbone.region_layer, backbone.token_selection) == (0, "none")
    for block in backbone.blocks:
        assert type(block) is PostNormBlock
        assert type(block.attention) is LiteralSliceAwareAttention
        assert type(block.region_attention) is LiteralRegionAwareAttention
        assert block.attention.slice_bias.shape[1] == 32 and not block.attention.slice_bias.any()
        assert (block.attention.slice_distance_weight, block.attention.backend) == (0.5, "dense")
        assert not hasattr(block.region_attention, "norm_regions")
        assert block.mlp.fc1.out_features == 4 * backbone.embed_dims
    assert type(backbone.norm) is nn.Identity
    assert (backbone.mean == 0).all() and (backbone.std == 1).all()
    assert model.space.volume_pooling.mode == "mean" and model.space.region_pooling.score is None
    assert model.space.region_score is None
    for level in ("volume", "region", "step"):
        assert type(model.objectives[level].criterion) is FixedTemperatureContrastiveLoss
        assert model.objectives[level].criterion.temperature == 0.07
    assert not [name for name, _ in model.named_parameters() if "logit_scale" in name]


def test_the_ablation_trains_on_phantoms(ablation):
    model = ablation[1]
    dataset = PhantomCT(num_cases=3, shape=(8, 32, 32), pipeline=[PackCTInputs()], num_workers=0)
    model.fit_tokenizer(dataset.texts())
    items = [dataset[i] for i in range(3)]
    data = dict(
        inputs={key: [item["inputs"][key] for item in items] for key in ("volume", "region_map")},
        data_samples=[item["data_samples"] for item in items],
    )
    data = model.data_preprocessor(data)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for step in range(16):
        losses = model(**data, mode="loss")
        optimizer.zero_grad()
        sum(losses.values()).backward()
        if step == 0:
            missing = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
            assert not missing
        optimizer.step()
        history.append({name: float(loss.detach()) for name, loss in losses.items()})
    assert set(history[0]) == {"loss_volume", "loss_region", "loss_step", "loss_focus"}
    assert sum(history[-1].values()) < 0.9 * sum(history[0].values())
    encoded = model.eval().encode(data["inputs"])
    outputs = literal.output_dict(model.space, encoded)
    assert list(outputs) == ["global", "local", "region", "patch_features"]
    torch.testing.assert_close(outputs["global"], model.space.embed_volume(encoded))
