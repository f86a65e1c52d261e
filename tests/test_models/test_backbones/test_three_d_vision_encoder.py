"""Properties of vision encoders beyond the common contract."""

import inspect

import pytest
import torch

from ctvlm.models.backbones import FactorizedCTViT, SliceWiseTimm, ThreeDVisionEncoder
from ctvlm.models.layers import (
    MLP,
    LearnedPosition3D,
    RotaryPosition3D,
    SinCosPosition3D,
    ThreeDTransformerBlock,
)
from ctvlm.registry import BACKBONES, LAYERS

SMALL = dict(img_size=(4, 12, 8), embed_dims=24, depth=2, num_regions=5, patch_embed=dict(patch_size=(2, 4, 4)))


def encoder(block=None, **kwargs):
    torch.manual_seed(0)
    return ThreeDVisionEncoder(**{**SMALL, "block": dict(num_heads=2, **(block or {})), **kwargs})


def test_default_sizes_are_the_spec():
    defaults = {n: p.default for n, p in inspect.signature(ThreeDVisionEncoder).parameters.items()}
    spec = dict(img_size=(64, 512, 512), embed_dims=768, depth=12, num_regions=20)
    assert {name: defaults[name] for name in spec} == spec
    model = ThreeDVisionEncoder(embed_dims=24, depth=1)
    assert (model.patch_size, model.patch_embed.in_channels) == ((4, 16, 16), 3)
    assert (model.blocks[0].attention.num_heads, model.blocks[0].mlp.fc1.out_features) == (12, 4 * 24)


def test_region_tokens_are_pooled_patches_plus_embedding():
    model = encoder().double().eval()
    region_map = torch.randint(0, 4, (2, 4, 12, 8))
    region_map[1][region_map[1] == 2] = 0
    out = model(torch.rand(2, 3, 4, 12, 8).double(), region_map)
    assert out.region_mask.tolist() == [[True] * 3 + [False] * 2, [True, False, True, False, False]]
    for b in range(2):
        for r in range(1, 6):
            share = out.patch_to_region[b, :, r].double()
            if out.region_mask[b, r - 1]:
                mean = (share[:, None] * out.tokens[b]).sum(dim=0) / share.sum()
                torch.testing.assert_close(
                    out.region_tokens[b, r - 1], mean + model.region_encoder.region_embedding[r - 1]
                )
            else:
                assert not out.region_tokens[b, r - 1].any()


def test_positions_are_patch_centres_in_mm():
    out = encoder()(torch.rand(1, 3, 4, 12, 8), None, torch.tensor([[3.0, 0.5, 1.0]]))
    assert out.positions[0, 0].tolist() == [3.0, 1.0, 2.0]
    assert out.positions[0, -1].tolist() == [9.0, 5.0, 6.0]


def test_patches_are_flattened_z_major():
    """Before the blocks, a change of one voxel changes only the token of its patch."""
    model = encoder(depth=1)
    volume = torch.rand(1, 3, 4, 12, 8)
    other = volume.clone()
    other[0, 0, 3, 9, 2] += 1
    change = (model.patch_embed(other) - model.patch_embed(volume)).abs().sum(dim=-1)[0]
    assert change.nonzero().flatten().tolist() == [1 * 6 + 2 * 2 + 0]


def test_the_region_map_changes_patches_only_after_the_region_layer():
    model = encoder(depth=3, region_layer=1, out_layers=(0, 1)).eval()
    volume = torch.rand(1, 3, 4, 12, 8)
    maps = [torch.full((1, 4, 12, 8), r) for r in (1, 2)]
    a, b = (model(volume, m) for m in maps)
    assert torch.equal(a.levels[0], b.levels[0])
    assert not torch.allclose(a.levels[1], b.levels[1])


def test_levels_follow_out_layers_and_end_with_the_tokens():
    out = encoder(depth=3, out_layers=(0, -1))(torch.rand(1, 3, 4, 12, 8))
    assert len(out.levels) == 2
    assert torch.equal(out.levels[-1], out.tokens)


def test_cases_of_a_batch_do_not_mix():
    model = encoder(dict(attention=dict(type="SliceAwareAttention", distance_unit="mm"))).eval()
    volume, region_map = torch.rand(3, 3, 4, 12, 8), torch.randint(0, 6, (3, 4, 12, 8))
    spacing = torch.rand(3, 3) + 1
    together = model(volume, region_map, spacing)
    alone = model(volume[1:2], region_map[1:2], spacing[1:2])
    torch.testing.assert_close(alone.tokens[0], together.tokens[1])
    torch.testing.assert_close(alone.region_tokens[0], together.region_tokens[1])


def test_learned_positions_are_their_table_on_their_own_grid():
    model = encoder(position="learned")
    table = model.position.table
    torch.testing.assert_close(model.position((2, 3, 2), table), table[0].flatten(1).T)
    constant = torch.nn.init.ones_(table)
    torch.testing.assert_close(model.position((5, 4, 3), constant), torch.ones(60, 24))


@LAYERS.register_module(force=True)
class ShortRotary(RotaryPosition3D):
    """A subclass, as a plugin registers it."""

    def __init__(self, head_dims):
        super().__init__(head_dims, max_wavelength=200.0)


@LAYERS.register_module(force=True)
class TanhMLP(MLP):
    def __init__(self, embed_dims, hidden_dims, drop=0.0, gain=1.0):
        super().__init__(embed_dims, hidden_dims, drop)
        self.act, self.gain = torch.nn.Tanh(), gain


@LAYERS.register_module(force=True)
class CountingBlock(ThreeDTransformerBlock):
    def __init__(self, *args, start=0, **kwargs):
        super().__init__(*args, **kwargs)
        self.calls = start

    def forward(self, *args):
        self.calls += 1
        return super().forward(*args)


@pytest.mark.parametrize(
    ("position", "cls"),
    [
        (dict(type="ShortRotary"), ShortRotary),
        (dict(type="ctvlm.ShortRotary"), ShortRotary),
        (dict(type=ShortRotary), ShortRotary),
        (dict(type="ctvlm.RotaryPosition3D", min_wavelength=10.0), RotaryPosition3D),
        (dict(type="ctvlm.LearnedPosition3D"), LearnedPosition3D),
        (dict(type="ctvlm.SinCosPosition3D"), SinCosPosition3D),
    ],
)
def test_positions_are_found_through_the_registry(position, cls):
    model = encoder(position=position)
    assert type(model.position) is cls
    assert torch.isfinite(model(torch.rand(1, 3, 4, 12, 8)).tokens).all()


def test_an_unknown_position_is_an_error_of_the_registry():
    with pytest.raises(KeyError, match="NoPosition.*layer"):
        encoder(position=dict(type="NoPosition"))


def test_block_and_mlp_are_replaceable():
    model = encoder(dict(type="ctvlm.CountingBlock", start=3, mlp=dict(type="TanhMLP", gain=2.0)))
    model(torch.rand(1, 3, 4, 12, 8))
    assert [(block.calls, type(block.mlp), block.mlp.gain) for block in model.blocks] == [(4, TanhMLP, 2.0)] * 2
    assert model.blocks[0].mlp.fc1.out_features == 96


def test_training_a_step_lowers_the_loss():
    model = encoder(dict(use_checkpoint=True), token_selection="body")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    volume, region_map = torch.rand(2, 3, 4, 12, 8), torch.randint(0, 6, (2, 4, 12, 8))
    target = torch.randn(2, 12, 24)
    losses = []
    for _ in range(30):
        loss = (model(volume, region_map).tokens - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_region_id_above_r_is_an_error():
    with pytest.raises(ValueError, match=r"id 6.*num_regions = 5"):
        encoder()(torch.rand(1, 3, 4, 12, 8), torch.full((1, 4, 12, 8), 6))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (dict(token_selection="half"), "token_selection"),
        (dict(position="polar"), "position"),
        (dict(region_layer=2), "region_layer = 2"),
        (dict(token_selection=dict(type="half")), "token_selection"),
        (dict(block=dict(overrides=[dict(blocks=[2], num_heads=3)])), r"blocks = \[2\]"),
        (dict(block=dict(overrides=[dict(num_heads=3)])), r"blocks = \[\]"),
        (dict(normalize=dict(mu=[1.0, 1.0, 1.0])), "mu"),
        (dict(out_layers=(4,)), "out_layers"),
    ],
)
def test_invalid_settings_are_errors(wrong, named):
    with pytest.raises(ValueError, match=named):
        encoder(**wrong)


def test_an_unknown_attention_is_an_error_of_its_registry():
    with pytest.raises(KeyError, match="Magic.*attention"):
        encoder(dict(attention=dict(type="Magic")))


def test_overrides_change_single_blocks():
    overrides = [dict(blocks=[0, -1], attention=dict(type="FullAttention")), dict(blocks=[-1], drop_path=0.5)]
    model = encoder(dict(overrides=overrides, drop_path=0.2, use_checkpoint=True), depth=3, region_layer=1)
    names = [type(block.attention).__name__ for block in model.blocks]
    assert names == ["FullAttention", "SliceAwareAttention", "FullAttention"]
    assert [getattr(block.drop_path, "drop_prob", 0.0) for block in model.blocks] == pytest.approx([0, 0.1, 0.5])
    assert [block.region_attention is None for block in model.blocks] == [True, False, False]
    assert model.checkpointed == [True] * 3


def test_factorized_blocks_are_spatial_then_temporal():
    model = FactorizedCTViT(1, 2, embed_dims=24, block=dict(num_heads=2))
    names = [type(block.attention).__name__ for block in model.blocks]
    assert names == ["SliceWindowAttention", "ColumnAttention", "ColumnAttention"]
    with pytest.raises(ValueError, match="depth, block.attention"):
        FactorizedCTViT(depth=4, block=dict(attention=dict(type="FullAttention")))


def test_slice_wise_averages_the_slices_of_a_token():
    torch.manual_seed(0)
    model = SliceWiseTimm(
        "test_vit", embed_dims=24, slices_per_token=2, model_kwargs=dict(dynamic_img_size=True)
    ).eval()
    h = model.patch_size[1]
    volume = torch.rand(1, 3, 4, 2 * h, h)
    swapped = volume[:, :, [1, 0, 2, 3]]
    torch.testing.assert_close(model(volume).tokens, model(swapped).tokens)
    assert not torch.allclose(model(volume).tokens, model(volume[:, :, [2, 1, 0, 3]]).tokens)


@pytest.mark.parametrize("kind", ["ThreeDVisionEncoder", "SliceWiseTimm"])
def test_the_input_is_normalised_once(kind):
    sizes = dict(embed_dims=24)
    if kind == "ThreeDVisionEncoder":
        sizes |= dict(depth=1, block=dict(num_heads=2))
    mean, std = [0.5, 0.2, 0.1], [0.3, 0.25, 0.15]
    torch.manual_seed(0)
    plain = BACKBONES.build(dict(type=kind, **sizes)).eval()
    torch.manual_seed(0)
    standard = BACKBONES.build(dict(type=kind, normalize=dict(mean=mean, std=std), **sizes)).eval()
    volume = torch.rand(1, 3, 8, 64, 64)
    by_hand = (volume - torch.tensor(mean).view(1, 3, 1, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1, 1)
    torch.testing.assert_close(standard(volume).tokens, plain(by_hand).tokens)
    with pytest.raises(ValueError, match=r"normalize.mean.*in_channels = 3"):
        BACKBONES.build(dict(type=kind, normalize=dict(mean=[0.5]), **sizes))
