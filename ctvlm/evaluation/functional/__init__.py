"""Metric definitions as pure functions."""

from ctvlm.evaluation.functional.alignment import (
    attention_auroc,
    attention_spearman,
    pointing_game,
    region_text_hits,
)
from ctvlm.evaluation.functional.bootstrap import Intervals, Resamples, bootstrap_intervals, paired_interval
from ctvlm.evaluation.functional.calibration import brier_score, expected_calibration_error, reliability_curve
from ctvlm.evaluation.functional.classification import (
    DECISION_SCORES,
    auroc,
    average_precision,
    best_f1_threshold,
    decision_scores,
    grid_corner_threshold,
    nearest_corner_threshold,
    youden_threshold,
)
from ctvlm.evaluation.functional.constant_report import constant_clinical_scores, constant_report, constant_reports
from ctvlm.evaluation.functional.crg import crg_score
from ctvlm.evaluation.functional.embedding_health import alignment, effective_rank, modality_gap, uniformity
from ctvlm.evaluation.functional.image_retrieval import image_map
from ctvlm.evaluation.functional.instances import (
    connected_instances,
    instance_counts,
    instance_counts_by_distance,
    instance_scores,
)
from ctvlm.evaluation.functional.localisation import (
    centroid_distance_mm,
    heat_to_mask,
    hit_rate,
    mask_dice,
    mask_iou,
    patches_to_voxels,
    peak_distance_mm,
    peak_hit,
    slice_centre_error_mm,
    slice_error_mm,
    slice_localisation,
    surface_distances_mm,
)
from ctvlm.evaluation.functional.location_questions import location_chance, location_scores, paired_organs
from ctvlm.evaluation.functional.opposite_text import opposite_hits
from ctvlm.evaluation.functional.pools import pool_recall
from ctvlm.evaluation.functional.protocols import (
    finding_scores,
    fit_thresholds,
    mean_defined,
    protocol_scores,
)
from ctvlm.evaluation.functional.rad_chestct import max16
from ctvlm.evaluation.functional.region_reports import mention_scores, paired_region_texts, region_texts
from ctvlm.evaluation.functional.region_retrieval import region_retrieval_ranks, summarise_region_ranks
from ctvlm.evaluation.functional.report_generation import bleu, clinical_scores, rouge, rouge_per_report
from ctvlm.evaluation.functional.report_labels import report_labels
from ctvlm.evaluation.functional.retrieval import (
    chance_recall,
    pessimistic_ranks,
    retrieval_ranks,
    summarise_ranks,
)
from ctvlm.evaluation.functional.retrieval_protocols import RETRIEVAL_PROTOCOLS, get_retrieval_protocol
from ctvlm.evaluation.functional.step_text import rival_cases, step_text_auc, step_text_scores
from ctvlm.evaluation.functional.studies import one_per_study, study_of
from ctvlm.evaluation.functional.vlm3d_reports import vlm3d_clean, vlm3d_label_scores, vlm3d_text_scores
from ctvlm.evaluation.functional.zero_shot import prompt_embeddings, zero_shot_probabilities
from ctvlm.evaluation.functional.zero_shot_protocols import PROTOCOLS, Protocol, get_protocol
from ctvlm.text.prompts import prompt_texts

__all__ = [
    "DECISION_SCORES",
    "PROTOCOLS",
    "RETRIEVAL_PROTOCOLS",
    "Intervals",
    "Resamples",
    "Protocol",
    "alignment",
    "attention_auroc",
    "attention_spearman",
    "auroc",
    "average_precision",
    "best_f1_threshold",
    "bleu",
    "bootstrap_intervals",
    "brier_score",
    "centroid_distance_mm",
    "chance_recall",
    "clinical_scores",
    "connected_instances",
    "constant_clinical_scores",
    "constant_report",
    "constant_reports",
    "crg_score",
    "decision_scores",
    "effective_rank",
    "expected_calibration_error",
    "finding_scores",
    "fit_thresholds",
    "get_protocol",
    "get_retrieval_protocol",
    "grid_corner_threshold",
    "heat_to_mask",
    "hit_rate",
    "image_map",
    "instance_counts",
    "instance_counts_by_distance",
    "instance_scores",
    "location_chance",
    "location_scores",
    "mask_dice",
    "mask_iou",
    "max16",
    "mean_defined",
    "mention_scores",
    "modality_gap",
    "nearest_corner_threshold",
    "one_per_study",
    "opposite_hits",
    "paired_interval",
    "paired_region_texts",
    "patches_to_voxels",
    "paired_organs",
    "peak_distance_mm",
    "peak_hit",
    "pessimistic_ranks",
    "pointing_game",
    "pool_recall",
    "prompt_embeddings",
    "prompt_texts",
    "protocol_scores",
    "region_retrieval_ranks",
    "region_text_hits",
    "region_texts",
    "reliability_curve",
    "report_labels",
    "retrieval_ranks",
    "rival_cases",
    "rouge",
    "rouge_per_report",
    "slice_centre_error_mm",
    "slice_error_mm",
    "slice_localisation",
    "step_text_auc",
    "step_text_scores",
    "study_of",
    "summarise_ranks",
    "summarise_region_ranks",
    "surface_distances_mm",
    "uniformity",
    "youden_threshold",
    "vlm3d_clean",
    "vlm3d_label_scores",
    "vlm3d_text_scores",
    "zero_shot_probabilities",
]
