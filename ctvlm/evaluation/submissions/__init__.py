"""Challenge submissions: writers, checks and scores."""

from ctvlm.evaluation.submissions.problem import Problem
from ctvlm.evaluation.submissions.rexgrounding import check_rex, write_rex_masks
from ctvlm.evaluation.submissions.vlm3d import (
    case_name,
    check_classification,
    check_reports,
    read_cases,
    read_labels,
    read_submission,
    score_classification,
    score_reports,
    write_classification,
    write_reports,
)

__all__ = [
    "Problem",
    "case_name",
    "check_classification",
    "check_reports",
    "check_rex",
    "read_cases",
    "read_labels",
    "read_submission",
    "score_classification",
    "score_reports",
    "write_classification",
    "write_reports",
    "write_rex_masks",
]
