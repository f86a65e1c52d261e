"""Rad-ChestCT's findings, as the literature scores them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_ARTERIAL, _CORONARY = "Arterial wall calcification", "Coronary artery wall calcification"
_ABSENT = "Mosaic attenuation pattern"


def max16(
    names: Sequence[str], truth_NC: np.ndarray, probability_NC: np.ndarray
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """16 of CT-RATE's 18 findings: calcification as one finding, no mosaic attenuation.

    Rad-ChestCT labels calcification without its place and has no mosaic attenuation. The probability of calcification
    is the greater of arterial and coronary; it takes the arterial column. Its label is 1 where either label is 1 (both
    are equal in the literature's fold of the labels).

    Source: evaluate_external in scripts/eval.py of github.com/ibrahimethemhamamci/CT-CLIP; RadFinder's
    radchestct_standard is the same. HLIP takes the smaller probability where neither is above 0.5.

    Args:
        truth_NC: 1, 0, NaN (unknown).

    Returns:
        Names, labels and probabilities of the remaining findings.

    Raises:
        ValueError: one of the two calcifications is missing.
    """
    names = list(names)
    missing = [name for name in (_ARTERIAL, _CORONARY) if name not in names]
    if missing:
        raise ValueError(f"The max/16 rule needs the finding {missing[0]!r}; found {names}.")
    arterial, coronary = names.index(_ARTERIAL), names.index(_CORONARY)
    truth_NC, probability_NC = np.array(truth_NC, dtype=np.float64), np.array(probability_NC, dtype=np.float64)
    pair_N2 = truth_NC[:, [arterial, coronary]]
    truth_NC[:, arterial] = np.where((pair_N2 == 1).any(axis=1), 1.0, pair_N2.max(axis=1))
    probability_NC[:, arterial] = probability_NC[:, [arterial, coronary]].max(axis=1)
    kept = [i for i, name in enumerate(names) if name not in (_CORONARY, _ABSENT)]
    return [names[i] for i in kept], truth_NC[:, kept], probability_NC[:, kept]
