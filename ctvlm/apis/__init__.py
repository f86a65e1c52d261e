"""Inference with trained models: features, findings, search, regions, reasoning and attention maps."""

from ctvlm.apis.attention_maps import AttentionMaps, attention_maps
from ctvlm.apis.case_input import CaseFailure, CaseInputError, CaseInputs, InputCase, array_volume, find_cases
from ctvlm.apis.case_reader import CaseReader, ReadCase
from ctvlm.apis.encoder import CTEncoder, EncoderFeatures
from ctvlm.apis.feature_extractor import FeatureExtractor, TextSimilarity, VolumeFeatures
from ctvlm.apis.hub_model import HubModel
from ctvlm.apis.inferencer import Inferencer, RunResult, UnsupportedTaskError
from ctvlm.apis.init_model import default_device, init_model
from ctvlm.apis.monai_encoder import MonaiEncoder
from ctvlm.apis.page_builder import PageBuilder
from ctvlm.apis.reasoning_inferencer import ReasonedStep, Reasoning, ReasoningInferencer
from ctvlm.apis.region_segmenter import RegionMap, RegionSegmenter
from ctvlm.apis.retriever import Hit, Hits, Retriever
from ctvlm.apis.save_cases import Outcome, RunOptions, SaveSummary
from ctvlm.apis.shipped_models import ModelInfo, list_models
from ctvlm.apis.zero_shot_classifier import Classification, ZeroShotClassifier

__all__ = [
    "AttentionMaps",
    "CTEncoder",
    "CaseFailure",
    "CaseInputError",
    "CaseInputs",
    "CaseReader",
    "Classification",
    "EncoderFeatures",
    "FeatureExtractor",
    "Hit",
    "Hits",
    "HubModel",
    "Inferencer",
    "InputCase",
    "ModelInfo",
    "MonaiEncoder",
    "Outcome",
    "PageBuilder",
    "ReadCase",
    "ReasonedStep",
    "Reasoning",
    "ReasoningInferencer",
    "RegionMap",
    "RegionSegmenter",
    "Retriever",
    "RunOptions",
    "RunResult",
    "SaveSummary",
    "TextSimilarity",
    "VolumeFeatures",
    "UnsupportedTaskError",
    "ZeroShotClassifier",
    "array_volume",
    "attention_maps",
    "default_device",
    "find_cases",
    "init_model",
    "list_models",
]
