"""Vision encoders: volume to EncoderOutput."""

from ctvlm.models.backbones.base import VisionEncoder
from ctvlm.models.backbones.body_selection import body_patches
from ctvlm.models.backbones.factorized_ct_vit import FactorizedCTViT
from ctvlm.models.backbones.literal_vision_encoder import LiteralVisionEncoder
from ctvlm.models.backbones.slice_wise_timm import SliceWiseTimm
from ctvlm.models.backbones.three_d_vision_encoder import ThreeDVisionEncoder

__all__ = [
    "FactorizedCTViT",
    "LiteralVisionEncoder",
    "SliceWiseTimm",
    "ThreeDVisionEncoder",
    "VisionEncoder",
    "body_patches",
]
