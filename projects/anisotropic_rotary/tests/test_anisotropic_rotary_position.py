from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ctvlm.engine import load_config
from ctvlm.models.layers import RotaryPosition3D
from ctvlm.registry import BACKBONES
from ctvlm.structures import TokenContext
from ctvlm.testing import check_backbone, check_position
from ctvlm.testing.inputs import body_volume
from projects.anisotropic_rotary.anisotropic_rotary_position import AnisotropicRotaryPosition3D

CONFIG = Path(__file__).parents[1] / "configs" / "vit3d_anisotropic_rotary_phantom.py"


def test_contract():
    check_position("AnisotropicRotaryPosition3D")
    check_position(AnisotropicRotaryPosition3D, min_wavelength=(50, 30, 20), max_wavelength=(900, 500, 400))


def test_encoder_accepts_the_subclass():
    check_backbone("ThreeDVisionEncoder", position=dict(type="AnisotropicRotaryPosition3D"), token_selection="body")


def test_equal_ranges_give_the_base_class():
    ctx = TokenContext.full(2, (3, 2, 4), torch.rand(2, 3) * 20)
    found = AnisotropicRotaryPosition3D(24, (20, 20, 20), (2000, 2000, 2000))(ctx)
    for part, expected in zip(found, RotaryPosition3D(24, 20, 2000)(ctx)):
        torch.testing.assert_close(part, expected)


def test_an_axis_has_its_own_wavelength():
    """A shift by one wavelength of z is a full turn along z, and a half turn along y with twice the wavelength."""
    position = AnisotropicRotaryPosition3D(6, (10, 20, 20), (11, 21, 21))
    ctx = TokenContext.full(1, (2, 2, 1), torch.tensor([[10.0, 10.0, 1.0]]))
    cos_N3, sin_N3 = (part[0, 0] for part in position(ctx))
    torch.testing.assert_close(cos_N3[2, 0], cos_N3[0, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(sin_N3[1, 1], -sin_N3[0, 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("low", "high"), [((20, 20), (200, 200)), ((20, 0, 20), (200,) * 3), ((20,) * 3, (9,) * 3)])
def test_wrong_ranges_are_errors(low, high):
    with pytest.raises(ValueError, match="min_wavelength"):
        AnisotropicRotaryPosition3D(24, low, high)


def test_config_uses_it():
    config = load_config(CONFIG).model.backbone
    backbone = BACKBONES.build(config)
    assert isinstance(backbone.position, AnisotropicRotaryPosition3D)
    assert backbone.position.omega.shape == (3, config.embed_dims // config.block.num_heads // 6)
    tokens = backbone(body_volume(1, (8, 32, 32)), None, torch.ones(1, 3)).tokens
    tokens.square().mean().backward()
    assert all(p.grad is not None for name, p in backbone.named_parameters() if "attention.qkv" in name)
