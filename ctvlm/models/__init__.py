"""Models and their parts; importing this package registers all of them."""

from ctvlm.models import (
    attention,
    backbones,
    data_preprocessors,
    heads,
    layers,
    losses,
    necks,
    region_encoders,
    text_encoders,
    vlms,
)

__all__ = [
    "attention",
    "backbones",
    "data_preprocessors",
    "heads",
    "layers",
    "losses",
    "necks",
    "region_encoders",
    "text_encoders",
    "vlms",
]
