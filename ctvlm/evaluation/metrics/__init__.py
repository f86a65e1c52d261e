"""Metrics for the evaluator of the Runner."""

from ctvlm.evaluation.metrics.alignment_metric import AlignmentMetric
from ctvlm.evaluation.metrics.case_metric import CaseMetric
from ctvlm.evaluation.metrics.classification_metric import ClassificationMetric
from ctvlm.evaluation.metrics.dump_predictions import DumpPredictions
from ctvlm.evaluation.metrics.embedding_health_metric import EmbeddingHealthMetric
from ctvlm.evaluation.metrics.image_retrieval_metric import ImageRetrievalMetric
from ctvlm.evaluation.metrics.learned_report_metric import LearnedReportMetric
from ctvlm.evaluation.metrics.localisation_metric import LocalisationMetric
from ctvlm.evaluation.metrics.location_question_metric import LocationQuestionMetric
from ctvlm.evaluation.metrics.opposite_text_metric import OppositeTextMetric
from ctvlm.evaluation.metrics.pool_retrieval_metric import PoolRetrievalMetric
from ctvlm.evaluation.metrics.region_report_metric import RegionReportMetric
from ctvlm.evaluation.metrics.region_retrieval_metric import RegionRetrievalMetric
from ctvlm.evaluation.metrics.region_text_metric import RegionTextMetric
from ctvlm.evaluation.metrics.report_generation_metric import ReportGenerationMetric
from ctvlm.evaluation.metrics.retrieval_metric import RetrievalMetric
from ctvlm.evaluation.metrics.slice_localisation_metric import SliceLocalisationMetric
from ctvlm.evaluation.metrics.step_metric import StepMetric
from ctvlm.evaluation.metrics.step_text_metric import StepTextMetric
from ctvlm.evaluation.metrics.vlm3d_report_metric import VLM3DReportMetric
from ctvlm.evaluation.metrics.zero_shot_classification_metric import ZeroShotClassificationMetric

__all__ = [
    "AlignmentMetric",
    "CaseMetric",
    "ClassificationMetric",
    "DumpPredictions",
    "EmbeddingHealthMetric",
    "ImageRetrievalMetric",
    "LearnedReportMetric",
    "LocalisationMetric",
    "LocationQuestionMetric",
    "OppositeTextMetric",
    "PoolRetrievalMetric",
    "RegionReportMetric",
    "RegionRetrievalMetric",
    "RegionTextMetric",
    "ReportGenerationMetric",
    "RetrievalMetric",
    "SliceLocalisationMetric",
    "StepMetric",
    "StepTextMetric",
    "VLM3DReportMetric",
    "ZeroShotClassificationMetric",
]
