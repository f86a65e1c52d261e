"""Converted weights of a 2D ViT give the same output in 3D; others raise an error."""

from __future__ import annotations

import pytest
import timm
import torch

from ctvlm.models.backbones.inflate import inflate_vit
from ctvlm.registry import BACKBONES

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = dict(embed_dims=24, depth=2)
# No class token: with one, patches of the 2D network attend to it.
PLAIN = dict(class_token=False, global_pool="avg", fc_norm=False)


def make_vit(seed=0, **options):
    torch.manual_seed(seed)
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, **options}
    vit = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0, **options).eval()
    with torch.no_grad():  # timm initialises biases with zero and positions near zero
        for parameter in vit.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return vit


def make_encoder(block=None, patch_embed=None, **options):
    config = dict(
        type="ThreeDVisionEncoder",
        img_size=(6, 32, 32),
        patch_embed=dict(patch_size=(2, 8, 8)) | (patch_embed or {}),
        position="learned",
        block=dict(num_heads=2, attention=dict(type="FullAttention")) | (block or {}),
        region_encoder=dict(type="NullRegionEncoder"),
        **SIZES,
    )
    return BACKBONES.build(config | options).eval()


def inflate(vit, encoder, mean=MEAN, std=STD):
    weights, left_over = inflate_vit(vit, encoder, mean, std)
    missing, unexpected = encoder.load_state_dict(weights, strict=False)
    assert not unexpected
    return set(missing), set(left_over)


def repeated(slice_BCHW, depth=6):
    return slice_BCHW[:, :, None].expand(-1, -1, depth, -1, -1).contiguous()


def normalised(slice_BCHW):
    return (slice_BCHW - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


STANDARD = dict(normalize=dict(mean=[0.5, 0.2, 0.1], std=[0.3, 0.2, 0.1]))


@pytest.mark.parametrize("standard", [{}, STANDARD], ids=["windows", "standardised"])
@pytest.mark.parametrize("options", [{}, dict(init_values=0.3), dict(qkv_bias=False)], ids=str)
def test_a_repeated_slice_gives_the_tokens_of_the_slice(options, standard):
    vit, encoder = make_vit(**PLAIN, **options), make_encoder(**standard)
    missing, left_over = inflate(vit, encoder)
    assert missing == left_over == set()
    slice_BCHW = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        wanted_BNE = vit.forward_features(normalised(slice_BCHW))
        tokens_BNE = encoder(repeated(slice_BCHW)).tokens
    torch.testing.assert_close(tokens_BNE, wanted_BNE.repeat(1, 3, 1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_numbers_of_windows_have_shares_of_a_grey_image(channels):
    standard = dict(mean=[0.1 * i for i in range(channels)], std=[0.2 + 0.1 * i for i in range(channels)])
    vit, encoder = make_vit(**PLAIN), make_encoder(patch_embed=dict(in_channels=channels), normalize=standard)
    inflate(vit, encoder)
    grey_B1HW = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        wanted_BNE = vit.forward_features(normalised(grey_B1HW.expand(-1, 3, -1, -1)))
        tokens_BNE = encoder(repeated(grey_B1HW.expand(-1, channels, -1, -1))).tokens
    torch.testing.assert_close(tokens_BNE, wanted_BNE.repeat(1, 3, 1), atol=1e-4, rtol=0)


def test_positions_follow_the_grid_and_other_tokens_are_left_out():
    vit = make_vit(reg_tokens=2)
    encoder = make_encoder(img_size=(4, 64, 48))
    missing, left_over = inflate(vit, encoder)
    assert missing == set() and left_over == {"cls_token", "reg_token"}
    table_EdHW = encoder.position.table[0]
    assert table_EdHW.shape == (24, 2, 8, 6)
    torch.testing.assert_close(table_EdHW[:, 0], table_EdHW[:, 1])
    same = make_encoder()
    inflate(vit, same)
    wanted_ENN = vit.pos_embed[0, 3:].T.unflatten(1, (4, 4))
    torch.testing.assert_close(same.position.table[0, :, 0], wanted_ENN)


def test_parameters_without_counterpart_are_missing_and_fixed_positions_are_kept():
    encoder = BACKBONES.build(
        dict(
            type="ThreeDVisionEncoder",
            img_size=(6, 32, 32),
            num_regions=5,
            patch_embed=dict(patch_size=(2, 16, 16)),
            block=dict(num_heads=2),
            **SIZES,
        )
    )
    missing, left_over = inflate(make_vit(), encoder)  # patches of 8 pixels become patches of 16
    assert left_over == {"cls_token", "pos_embed"}
    assert all("region" in name or "slice_bias" in name for name in missing) and missing


@pytest.mark.parametrize(
    ("vit", "encoder", "message"),
    [
        (dict(embed_dim=48), {}, r"embed_dims=48 .*24"),
        (dict(depth=3), {}, r"depth=3 .*2"),
        (dict(num_heads=3), dict(embed_dims=48), r"embed_dims=24 .*block.num_heads=3 .*2"),
        (dict(mlp_ratio=2), {}, r"block.mlp_ratio=2.0 .*4.0"),
        (dict(qk_norm=True), {}, "attn.k_norm.bias"),
        (dict(pre_norm=True), {}, "norm_pre.bias"),
        (dict(act_layer="silu"), {}, "activation SiLU"),
        ({}, dict(block=dict(attention=dict(type="AxialAttention"))), "AxialAttention"),
        (
            {},
            dict(patch_embed=dict(type="HierarchicalPatchEmbedding", merges=[(2, 8, 8)], widths=[])),
            "HierarchicalPatchEmbedding.*ThreeDPatchEmbedding",
        ),
    ],
)
def test_other_blocks_and_sizes_are_errors(vit, encoder, message):
    with pytest.raises(ValueError, match=message):
        inflate_vit(make_vit(**vit), make_encoder(**encoder), MEAN, STD)


def test_another_network_is_an_error():
    swin = timm.create_model("test_resnet", pretrained=False)
    with pytest.raises(ValueError, match="ResNet.*SliceWiseTimm"):
        inflate_vit(swin, make_encoder(), MEAN, STD)
