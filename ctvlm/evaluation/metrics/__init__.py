"""Metrics that the Runner's evaluator builds."""

from ctvlm.evaluation.metrics.region_text_metric import RegionTextMetric
from ctvlm.evaluation.metrics.retrieval_metric import RetrievalMetric

__all__ = ["RegionTextMetric", "RetrievalMetric"]
