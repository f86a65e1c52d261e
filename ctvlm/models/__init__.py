"""Models and their parts; importing this package registers all of them."""

from ctvlm.models import (
    attention,
    backbones,
    data_preprocessors,
    heads,
    layers,
    losses,
    necks,
    objectives,
    region_encoders,
    space,
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
    "objectives",
    "region_encoders",
    "space",
    "text_encoders",
    "vlms",
]
