"""Inference with trained models: features, text similarities and attention maps."""

from ctvlm.apis.attention_maps import AttentionMaps, attention_maps
from ctvlm.apis.case_reader import CaseReader, ReadCase
from ctvlm.apis.feature_extractor import FeatureExtractor, TextSimilarity, VolumeFeatures
from ctvlm.apis.init_model import default_device, init_model
from ctvlm.apis.shipped_models import ModelInfo, list_models

__all__ = [
    "AttentionMaps",
    "CaseReader",
    "FeatureExtractor",
    "ModelInfo",
    "ReadCase",
    "TextSimilarity",
    "VolumeFeatures",
    "attention_maps",
    "default_device",
    "init_model",
    "list_models",
]
