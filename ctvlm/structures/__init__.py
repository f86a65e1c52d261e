"""Typed containers for the data passed between data sets, models and evaluation."""

from ctvlm.structures.anatomy import Anatomy
from ctvlm.structures.ct_data_sample import STAGES, CoTStep, CTDataSample
from ctvlm.structures.encoder_output import EncoderOutput
from ctvlm.structures.mean_terms import MeanTerms
from ctvlm.structures.pairs import Pairs, widened
from ctvlm.structures.token_context import TokenContext

__all__ = [
    "STAGES",
    "Anatomy",
    "CTDataSample",
    "CoTStep",
    "EncoderOutput",
    "MeanTerms",
    "Pairs",
    "TokenContext",
    "widened",
]
