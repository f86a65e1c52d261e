"""Inference with trained models: features, findings, search, regions, reasoning and attention maps."""

from ctvlm.apis.attention_maps import AttentionMaps, attention_maps
from ctvlm.apis.case_input import CaseFailure, CaseInputError, CaseInputs, InputCase, array_volume, find_cases
from ctvlm.apis.case_reader import CaseReader, ReadCase
from ctvlm.apis.feature_extractor import FeatureExtractor, TextSimilarity, VolumeFeatures
from ctvlm.apis.inferencer import Inferencer, RunResult
from ctvlm.apis.init_model import default_device, init_model
from ctvlm.apis.reasoning_inferencer import ReasonedStep, Reasoning, ReasoningInferencer
from ctvlm.apis.region_segmenter import RegionMap, RegionSegmenter
from ctvlm.apis.retriever import Hit, Hits, Retriever
from ctvlm.apis.save_cases import Outcome, RunOptions, SaveSummary
from ctvlm.apis.shipped_models import ModelInfo, list_models
from ctvlm.apis.zero_shot_classifier import Classification, ZeroShotClassifier

__all__ = [
    "AttentionMaps",
    "CaseFailure",
    "CaseInputError",
    "CaseInputs",
    "CaseReader",
    "Classification",
    "FeatureExtractor",
    "ModelInfo",
    "Hit",
    "Hits",
    "Inferencer",
    "InputCase",
    "Outcome",
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
    "ZeroShotClassifier",
    "array_volume",
    "attention_maps",
    "default_device",
    "find_cases",
    "init_model",
    "list_models",
]
