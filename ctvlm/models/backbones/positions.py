"""From the config of an encoder to its position encoding."""

from __future__ import annotations

from typing import Any

from ctvlm.models.layers import Position3D
from ctvlm.registry import LAYERS
from ctvlm.utils import check_choice

POSITIONS = {"sincos": "SinCosPosition3D", "learned": "LearnedPosition3D", "rotary": "RotaryPosition3D"}


def build_position(
    position: str | dict, base_grid: tuple[int, int, int], embed_dims: int, num_heads: int
) -> Position3D:
    """The position encoding of a short name or a config; ``base_grid`` is the patch grid of ``img_size``."""
    if isinstance(position, str):
        check_choice("ThreeDVisionEncoder", "position", position, POSITIONS)
        position = dict(type=POSITIONS[position])
    cls = position["type"] if isinstance(position["type"], type) else LAYERS.get(position["type"])
    # A name that is not registered is an error of build.
    wanted = getattr(cls, "sizes", Position3D.sizes)
    sizes: dict[str, Any] = dict(embed_dims=embed_dims, head_dims=embed_dims // num_heads, base_grid=base_grid)
    return LAYERS.build(position, default_args={name: sizes[name] for name in wanted})
