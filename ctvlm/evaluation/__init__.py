"""Evaluation: pure functions, the metrics around them, predictions on disk, challenge files."""

from ctvlm.evaluation.dump import load_dump, save_dump
from ctvlm.evaluation.labels import CT_RATE_LABELS
from ctvlm.evaluation.metrics import (
    AlignmentMetric,
    CaseMetric,
    ClassificationMetric,
    DumpPredictions,
    EmbeddingHealthMetric,
    ImageRetrievalMetric,
    LocalisationMetric,
    PoolRetrievalMetric,
    RegionReportMetric,
    RegionRetrievalMetric,
    RegionTextMetric,
    ReportGenerationMetric,
    RetrievalMetric,
    SliceLocalisationMetric,
    StepTextMetric,
    VLM3DReportMetric,
    ZeroShotClassificationMetric,
)

__all__ = [
    "CT_RATE_LABELS",
    "AlignmentMetric",
    "CaseMetric",
    "ClassificationMetric",
    "DumpPredictions",
    "EmbeddingHealthMetric",
    "ImageRetrievalMetric",
    "LocalisationMetric",
    "PoolRetrievalMetric",
    "RegionReportMetric",
    "RegionRetrievalMetric",
    "RegionTextMetric",
    "ReportGenerationMetric",
    "RetrievalMetric",
    "SliceLocalisationMetric",
    "StepTextMetric",
    "VLM3DReportMetric",
    "ZeroShotClassificationMetric",
    "load_dump",
    "save_dump",
]
