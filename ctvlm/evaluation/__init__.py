"""Evaluation: pure functions and the metrics around them."""

from ctvlm.evaluation.metrics import RegionTextMetric, RetrievalMetric

__all__ = ["RegionTextMetric", "RetrievalMetric"]
