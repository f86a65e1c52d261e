"""Findings of Rad-ChestCT as scored in the literature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_ARTERIAL, _CORONARY = "Arterial wall calcification", "Coronary artery wall calcification"
_MOSAIC = "Mosaic attenuation pattern"


def max16(
    names: Sequence[str], truth_NC: np.ndarray, probability_NC: np.ndarray
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Reduce CT-RATE's 18 findings to 16: both calcifications become one finding, mosaic attenuation is removed.

    Rad-ChestCT has one label for calcification and none for mosaic attenuation. The merged finding replaces arterial
    calcification: its probability is the maximum of both, and its label is 1 if either label is 1 (both are equal in
    the labels used in the literature).

    Source: evaluate_external in scripts/eval.py of github.com/ibrahimethemhamamci/CT-CLIP; RadFinder's
    radchestct_standard is the same. HLIP uses the minimum of the probabilities if neither is above 0.5.

    Args:
        truth_NC: 1, 0 or NaN (unknown).

    Returns:
        Names, labels and probabilities of the remaining findings.

    Raises:
        ValueError: one of the two calcifications is missing.
    """
    names = list(names)
    missing = [name for name in (_ARTERIAL, _CORONARY) if name not in names]
    if missing:
        raise ValueError(f"Found the findings {names}; expected {missing[0]!r} among them.")
    arterial, coronary = names.index(_ARTERIAL), names.index(_CORONARY)
    truth_NC, probability_NC = np.array(truth_NC, dtype=np.float64), np.array(probability_NC, dtype=np.float64)
    pair_N2 = truth_NC[:, [arterial, coronary]]
    truth_NC[:, arterial] = np.where((pair_N2 == 1).any(axis=1), 1.0, pair_N2.max(axis=1))
    probability_NC[:, arterial] = probability_NC[:, [arterial, coronary]].max(axis=1)
    keep = [i for i, name in enumerate(names) if name not in (_CORONARY, _MOSAIC)]
    return [names[i] for i in keep], truth_NC[:, keep], probability_NC[:, keep]
