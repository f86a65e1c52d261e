"""Scores of generated reports as the VLM3D challenge computes them.

Source: reportgen_evaluation (nlg_metrics.py, calc_scores.py, crg_score.py) of github.com/forithmus/VLM3D-Dockers. The
values differ from those of ``report_generation``: other text cleaning, tokens split at blanks, no smoothing.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import warnings
from collections.abc import Sequence

import numpy as np

from ctvlm.evaluation.functional.crg import crg_score
from ctvlm.utils import CTVLMError

TEXT_SCORES = ("BLEU_1", "BLEU_2", "BLEU_3", "BLEU_4", "BLEU_mean", "ROUGE_L", "CIDEr", "METEOR")
LABEL_SCORES = ("precision_macro", "recall_macro", "f1_macro", "accuracy_macro", "crg")
# METEOR loads a large paraphrase table first, which takes up to a minute on a busy machine.
_METEOR_START_S, _METEOR_REPORT_S = 300.0, 1.0


def vlm3d_clean(text: str, generated: bool = False) -> str:
    """Text as the challenge scores it.

    Line feeds are removed and `` .`` becomes ``.``. In generated reports ``<|eot_id|>``, ``"`` and ``_`` are removed
    as well.
    """
    text = text.replace("\n", "")
    if generated:
        for token in ("<|eot_id|>", '"', "_"):
            text = text.replace(token, "")
    return text.replace(" . ", ".").replace(" .", ".")


def vlm3d_text_scores(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """``BLEU_1`` to ``BLEU_4``, their mean ``BLEU_mean``, ``ROUGE_L``, ``CIDEr`` and ``METEOR`` by pycocoevalcap.

    Needs ``pip install 'ctvlm[vlm3d]'``. METEOR needs Java; without it METEOR is NaN, with a warning. All scores are
    NaN without reports.

    Raises:
        ValueError: the numbers of predictions and references differ.
        ImportError: pycocoevalcap is not installed.
        CTVLMError: METEOR's Java process fails or does not answer in time (5 minutes, plus 1 second per report).
    """
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions and {len(references)} references: expected one of each.")
    if not references:
        return dict.fromkeys(TEXT_SCORES, float("nan"))
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError:
        raise ImportError("VLM3D's report scores need pycocoevalcap: pip install 'ctvlm[vlm3d]'") from None
    truth = {number: [vlm3d_clean(text)] for number, text in enumerate(references)}
    said = {number: [vlm3d_clean(text, generated=True)] for number, text in enumerate(predictions)}
    bleu = Bleu(4).compute_score(truth, said, verbose=0)[0]
    values = [*bleu, np.mean(bleu), Rouge().compute_score(truth, said)[0], Cider().compute_score(truth, said)[0]]
    return {name: float(value) for name, value in zip(TEXT_SCORES, [*values, _meteor(truth, said)], strict=True)}


def vlm3d_label_scores(truth_NC: np.ndarray, predicted_NC: np.ndarray) -> dict[str, float]:
    """Macro precision, recall, F1 and accuracy, and ``crg``, by the challenge's rules.

    Every finding counts in the macro means: one that is absent from the references, or from the predictions, has
    precision, recall and F1 0. ``clinical_scores`` leaves a finding out that is absent from the references. The
    challenge has no null labels; here a null label is ignored, and a finding without any known label is left out.

    Args:
        truth_NC, predicted_NC: labels of the references and of the generated reports (cases, findings): 1, 0 or NaN.

    Raises:
        ValueError: the arrays differ in shape or are not two-dimensional.
    """
    truth, predicted = np.asarray(truth_NC, dtype=np.float64), np.asarray(predicted_NC, dtype=np.float64)
    if truth.shape != predicted.shape or truth.ndim != 2:
        raise ValueError(f"Labels of shapes {truth.shape} and {predicted.shape}: expected one (reports, findings).")
    known = ~(np.isnan(truth) | np.isnan(predicted))
    labelled = known.any(axis=0)
    if not labelled.any():
        return dict.fromkeys(LABEL_SCORES, float("nan"))
    present, said = known & (truth == 1), known & (predicted == 1)
    found, stated, positives = ((present & said).sum(axis=0), said.sum(axis=0), present.sum(axis=0))
    by_finding = (
        found / np.maximum(stated, 1),
        found / np.maximum(positives, 1),
        2 * found / np.maximum(stated + positives, 1),
        (known & (present == said)).sum(axis=0) / np.maximum(known.sum(axis=0), 1),
    )
    macro = [float(values[labelled].mean()) for values in by_finding]
    return dict(zip(LABEL_SCORES, [*macro, crg_score(truth[known], predicted[known])], strict=True))


def _meteor(truth: dict[int, list[str]], said: dict[int, list[str]]) -> float:
    """METEOR 1.5 by pycocoevalcap's Java process, which is killed when it does not answer in time."""
    if shutil.which("java") is None:
        warnings.warn("METEOR is left out (NaN): it needs Java, and no 'java' is on the PATH.", stacklevel=3)
        return float("nan")
    from pycocoevalcap.meteor.meteor import Meteor

    # A line break of any kind would end the request early, and the process would wait for the rest for ever.
    truth, said = (
        {number: [" ".join(texts[0].splitlines())] for number, texts in reports.items()} for reports in (truth, said)
    )
    limit = _METEOR_START_S + _METEOR_REPORT_S * len(truth)
    scorer = Meteor()
    expired = threading.Event()

    def stop() -> None:
        expired.set()
        scorer.meteor_p.kill()

    timer = threading.Timer(limit, stop)
    timer.daemon = True
    timer.start()
    try:
        return scorer.compute_score(truth, said)[0]
    except (OSError, ValueError) as error:
        if expired.is_set():
            raise CTVLMError(f"METEOR's Java process gave no answer in {limit:g} s: check 'java -version'.") from None
        raise CTVLMError(f"METEOR's Java process failed ({error}): check 'java -version'.") from None
    finally:
        timer.cancel()
        # pycocoevalcap keeps its lock after an error, and its destructor would wait for it for ever.
        if scorer.lock.locked():
            scorer.lock.release()
        scorer.meteor_p.kill()
        with contextlib.suppress(OSError):  # what is still unsent has no reader
            scorer.meteor_p.stdin.close()
