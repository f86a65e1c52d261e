"""Grouping of volumes into studies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from ctvlm.utils import natural_key

# CT-RATE: <split>_<patient>_<scan letter>_<reconstruction>, with or without a file suffix.
_CT_RATE = re.compile(r"^((?:train|valid)_\d+_[a-z]+)_\d+(?i:\.nii(?:\.gz)?)?$")

# Optional keys of a data sample that determine its study and whether it represents the study.
STUDY_KEYS = frozenset({"study_id", "sets"})


def study_of(case_id: str) -> str:
    """Study of a case: a CT-RATE name without its reconstruction number; any other id is its own study."""
    match = _CT_RATE.match(case_id)
    return match.group(1) if match else case_id


def one_per_study(
    case_ids: Sequence[str], studies: Sequence[str] | None = None, preferred: Sequence[bool] | None = None
) -> np.ndarray:
    """Index of one case of each study, in the order of ``case_ids``.

    Reconstructions of one scan share a report, so that one text would match several volumes. The first case of a study
    in natural order of the ids (``_2`` before ``_10``) is selected, preferred cases first.

    Args:
        studies: study of each case; derived from CT-RATE's names by default.
        preferred: False for a volume that does not represent its study, such as a head series in a chest scan.
    """
    preferred = [True] * len(case_ids) if preferred is None else preferred
    studies = [study_of(case) for case in case_ids] if studies is None else studies
    first: dict[str, int] = {}
    for index in sorted(range(len(case_ids)), key=lambda i: (not preferred[i], natural_key(case_ids[i]))):
        first.setdefault(studies[index], index)
    return np.array(sorted(first.values()), dtype=int)


def represents_study(sample: Mapping) -> bool:
    """False for a CT-RATE volume without a chest, which is not in the evaluation set ``nohead``."""
    sets = sample.get("sets")
    return not sets or "nohead" in sets
