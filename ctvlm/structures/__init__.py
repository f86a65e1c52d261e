"""Typed containers that pass between data, models and evaluation."""

from ctvlm.structures.ct_data_sample import CoTStep, CTDataSample
from ctvlm.structures.encoder_output import EncoderOutput

__all__ = ["CTDataSample", "CoTStep", "EncoderOutput"]
