"""Evaluation: metrics and their functions, dumps of predictions, challenge submissions."""

from ctvlm.evaluation.dump import load_dump, save_dump
from ctvlm.evaluation.metrics import (
    AlignmentMetric,
    CaseMetric,
    ClassificationMetric,
    DumpPredictions,
    EmbeddingHealthMetric,
    ImageRetrievalMetric,
    LearnedReportMetric,
    LocalisationMetric,
    OppositeTextMetric,
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
from ctvlm.evaluation.needs import needed_keys
from ctvlm.evaluation.report_scorers import GREEN, BERTScore, RadGraphF1, RaTEScore, ReportScorer
from ctvlm.text.finding_labels import CT_RATE_LABELS

__all__ = [
    "BERTScore",
    "GREEN",
    "RaTEScore",
    "RadGraphF1",
    "ReportScorer",
    "CT_RATE_LABELS",
    "AlignmentMetric",
    "CaseMetric",
    "ClassificationMetric",
    "DumpPredictions",
    "EmbeddingHealthMetric",
    "ImageRetrievalMetric",
    "LearnedReportMetric",
    "LocalisationMetric",
    "OppositeTextMetric",
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
    "needed_keys",
    "save_dump",
]
