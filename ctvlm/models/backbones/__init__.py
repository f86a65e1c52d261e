"""Vision encoders: volume to EncoderOutput."""

from ctvlm.models.backbones.base import VisionEncoder
from ctvlm.models.backbones.body_selection import body_patches
from ctvlm.models.backbones.factorized_ct_vit import FactorizedCTViT
from ctvlm.models.backbones.literal_vision_encoder import LiteralVisionEncoder
from ctvlm.models.backbones.pretrained_tower import PretrainedTower
from ctvlm.models.backbones.slice_wise_timm import SliceWiseTimm
from ctvlm.models.backbones.three_d_vision_encoder import ThreeDVisionEncoder
from ctvlm.models.backbones.tower import InputConvention, Tower

__all__ = [
    "FactorizedCTViT",
    "InputConvention",
    "LiteralVisionEncoder",
    "PretrainedTower",
    "SliceWiseTimm",
    "ThreeDVisionEncoder",
    "Tower",
    "VisionEncoder",
    "body_patches",
]
