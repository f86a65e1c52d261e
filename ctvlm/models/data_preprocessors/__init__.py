"""Preprocessing on the device that trains."""

from ctvlm.models.data_preprocessors.ct_data_preprocessor import CTDataPreprocessor

__all__ = ["CTDataPreprocessor"]
