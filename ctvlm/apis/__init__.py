"""What to import to use a trained model."""

from ctvlm.apis.init_model import default_device, init_model

__all__ = ["default_device", "init_model"]
