"""Preprocessing of batches on the device."""

from ctvlm.models.data_preprocessors.ct_data_preprocessor import CTDataPreprocessor

__all__ = ["CTDataPreprocessor"]
