"""Report generation scores of the VLM3D challenge.

Source: reportgen_evaluation (nlg_metrics.py, calc_scores.py, crg_score.py) of github.com/forithmus/VLM3D-Dockers. The
scores differ from those of ``report_generation``: other text cleaning, tokens separated by spaces, no smoothing.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import warnings
from collections.abc import Sequence

import numpy as np

from ctvlm.evaluation.functional.crg import crg_score
from ctvlm.utils import CTVLMError, MissingPackageError

TEXT_SCORES = ("BLEU_1", "BLEU_2", "BLEU_3", "BLEU_4", "BLEU_mean", "ROUGE_L", "CIDEr", "METEOR")
LABEL_SCORES = ("precision_macro", "recall_macro", "f1_macro", "accuracy_macro", "crg")
# METEOR loads a large paraphrase table at start, which takes up to a minute on a busy machine.
_METEOR_START_S, _METEOR_REPORT_S = 300.0, 1.0


def vlm3d_clean(text: str, generated: bool = False) -> str:
    """Clean a text as the challenge does.

    Line feeds are removed and `` .`` becomes ``.``. ``<|eot_id|>``, ``"`` and ``_`` are removed from generated reports.
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
        MissingPackageError: pycocoevalcap is not installed.
        CTVLMError: METEOR's Java process fails or times out (5 minutes plus 1 second per report).
    """
    if len(predictions) != len(references):
        raise ValueError(
            f"Found {len(predictions)} predictions and {len(references)} references; expected equal numbers."
        )
    if not references:
        return dict.fromkeys(TEXT_SCORES, float("nan"))
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError:
        raise MissingPackageError("pycocoevalcap is not installed. Run: pip install 'ctvlm[vlm3d]'") from None
    truth = {number: [vlm3d_clean(text)] for number, text in enumerate(references)}
    generated = {number: [vlm3d_clean(text, generated=True)] for number, text in enumerate(predictions)}
    bleu = Bleu(4).compute_score(truth, generated, verbose=0)[0]
    rouge, cider = (scorer.compute_score(truth, generated)[0] for scorer in (Rouge(), Cider()))
    values = [*bleu, np.mean(bleu), rouge, cider, _meteor(truth, generated)]
    return {name: float(value) for name, value in zip(TEXT_SCORES, values, strict=True)}


def vlm3d_label_scores(truth_NC: np.ndarray, predicted_NC: np.ndarray) -> dict[str, float]:
    """Macro precision, recall, F1 and accuracy, and ``crg``, by the challenge's rules.

    All findings are included in the macro averages. A finding without a positive in the references or in the
    predictions has precision, recall and F1 0, whereas ``clinical_scores`` excludes findings without a positive in the
    references. The challenge has no unknown labels; here they are ignored, and a finding without known labels is
    excluded.

    Args:
        truth_NC, predicted_NC: labels of the references and of the generated reports (cases, findings): 1, 0 or NaN.

    Raises:
        ValueError: the arrays differ in shape or are not two-dimensional.
    """
    truth, predicted = np.asarray(truth_NC, dtype=np.float64), np.asarray(predicted_NC, dtype=np.float64)
    if truth.shape != predicted.shape or truth.ndim != 2:
        raise ValueError(f"Labels have shapes {truth.shape} and {predicted.shape}; expected (reports, findings).")
    known = ~(np.isnan(truth) | np.isnan(predicted))
    labelled = known.any(axis=0)
    if not labelled.any():
        return dict.fromkeys(LABEL_SCORES, float("nan"))
    present, stated = known & (truth == 1), known & (predicted == 1)
    tp, predictions, positives = ((present & stated).sum(axis=0), stated.sum(axis=0), present.sum(axis=0))
    by_finding = (
        tp / np.maximum(predictions, 1),
        tp / np.maximum(positives, 1),
        2 * tp / np.maximum(predictions + positives, 1),
        (known & (present == stated)).sum(axis=0) / np.maximum(known.sum(axis=0), 1),
    )
    macro = [float(values[labelled].mean()) for values in by_finding]
    return dict(zip(LABEL_SCORES, [*macro, crg_score(truth[known], predicted[known])], strict=True))


def _meteor(truth: dict[int, list[str]], generated: dict[int, list[str]]) -> float:
    """METEOR 1.5 by pycocoevalcap's Java process, which is killed after a time limit."""
    if shutil.which("java") is None:
        warnings.warn("METEOR is NaN: no 'java' on the PATH. Install Java to compute it.", stacklevel=3)
        return float("nan")
    from pycocoevalcap.meteor.meteor import Meteor

    # A line break of any kind would end the request early, and the process would wait for the rest indefinitely.
    truth, generated = (
        {number: [" ".join(texts[0].splitlines())] for number, texts in reports.items()}
        for reports in (truth, generated)
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
        return scorer.compute_score(truth, generated)[0]
    except (OSError, ValueError) as error:
        if expired.is_set():
            raise CTVLMError(f"METEOR's Java process timed out after {limit:g} s. Check 'java -version'.") from None
        raise CTVLMError(f"METEOR's Java process failed ({error}). Check 'java -version'.") from None
    finally:
        timer.cancel()
        # pycocoevalcap does not release its lock after an error, and its destructor would wait for it indefinitely.
        if scorer.lock.locked():
            scorer.lock.release()
        scorer.meteor_p.kill()
        with contextlib.suppress(OSError):  # unsent data cannot be flushed
            scorer.meteor_p.stdin.close()
