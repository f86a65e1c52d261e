"""Volume to EncoderOutput."""

from ctvlm.models.backbones.base import VisionEncoder
from ctvlm.models.backbones.three_d_vision_encoder import ThreeDVisionEncoder

__all__ = ["ThreeDVisionEncoder", "VisionEncoder"]
