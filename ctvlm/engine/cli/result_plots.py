"""Write the figures of an evaluation from a dump of predictions and its results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ctvlm.engine.cli.metrics_table import metric_rows
from ctvlm.evaluation import ClassificationMetric, ZeroShotClassificationMetric
from ctvlm.evaluation.functional import PROTOCOLS
from ctvlm.evaluation.functional.calibration import expected_calibration_error, reliability_curve
from ctvlm.evaluation.functional.classification import auroc, labelled
from ctvlm.evaluation.metrics.case_metric import to_array
from ctvlm.utils import atomic_write

# Data that the figures need, in addition to those of the metrics.
PLOT_KEYS = frozenset({"labels", "pred_volume"})
NO_FINDING = "no finding"


def write_plots(folder: str | Path, dump: Mapping[str, Any], results: Mapping[str, Any]) -> list[Path]:
    """Write metrics.png, and roc.png, reliability.png and embedding.png if the dump has the data; returns the paths."""
    from ctvlm.visualization.evaluation_plots import embedding_figure, metrics_figure, reliability_figure, roc_figure

    folder = Path(folder)
    figures = {}
    rows = [
        (row.metric, row.value, row.low, row.high, row.chance)
        for row in metric_rows(results)
        if isinstance(row.value, float) and 0 <= row.value <= 1
    ]
    if rows:
        figures["metrics"] = metrics_figure(rows)
    if (scored := finding_probabilities(dump)) is not None:
        names, truth_NC, probability_NC = scored
        curves, areas = roc_curves(names, truth_NC, probability_NC)
        if curves:
            figures["roc"] = roc_figure(curves, areas)
        known = ~np.isnan(truth_NC)
        if known.any():
            truth, probability = truth_NC[known], probability_NC[known]
            error = expected_calibration_error(truth, probability)
            title = f"{len(truth)} labels of {len(names)} findings, ECE {error:.3f}"
            figures["reliability"] = reliability_figure(*reliability_curve(truth, probability), title)
    cases = [case for case in dump["cases"] if case.get("pred_volume") is not None]
    if len(cases) >= 4:
        points_N2 = embedding_map(np.stack([to_array(case["pred_volume"]) for case in cases]))
        groups = finding_groups([case.get("labels") or {} for case in cases])
        title = f"t-SNE of {len(cases)} volume embeddings, coloured by the rarest finding of a case"
        figures["embedding"] = embedding_figure(points_N2, groups, title, NO_FINDING)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        with atomic_write(paths[-1]) as part:
            figure.savefig(part, dpi=150)
    return paths


def finding_probabilities(dump: Mapping[str, Any]) -> tuple[list[str], np.ndarray, np.ndarray] | None:
    """Findings, labels and probabilities (N, C): of the classifier, else by prompts of the first available protocol."""
    cases = [case for case in dump["cases"] if case.get("labels")]
    names = sorted({name for case in cases for name in case["labels"]})
    metric: ClassificationMetric | None = None
    if names and all(case.get("pred_probabilities") for case in cases):
        names = [name for name in names if all(name in case["pred_probabilities"] for case in cases)]
        metric = ClassificationMetric("ctvlm", names=names) if names else None
    elif names and all(case.get("pred_volume") is not None for case in cases):
        for protocol in sorted(PROTOCOLS.values(), key=lambda protocol: protocol.name != "ctvlm"):
            if protocol.fold is None and protocol.select(names):
                zero_shot = ZeroShotClassificationMetric(protocol.name, names=names)
                if dump["prompts"].keys() >= set(zero_shot.prompts()):
                    zero_shot.set_prompt_embeddings(dump["prompts"], dump["scale"])
                    metric = zero_shot
                    break
    if metric is None:
        return None
    records = [metric.record(case) for case in cases]
    truth, probability = (np.stack([record[key] for record in records]) for key in ("truth", "probability"))
    return metric.names, truth, probability


def roc_curves(
    names: list[str], truth_NC: np.ndarray, probability_NC: np.ndarray
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], dict[str, float]]:
    """ROC curve and its area of each finding with both classes."""
    from sklearn.metrics import roc_curve

    curves, areas = {}, {}
    for number, name in enumerate(names):
        truth, score = labelled(truth_NC[:, number], probability_NC[:, number])
        if 0 < truth.sum() < len(truth):
            fpr, tpr, _ = roc_curve(truth, score)
            curves[name], areas[name] = (fpr, tpr), auroc(truth, score)
    return curves, areas


def embedding_map(embeddings_NP: np.ndarray) -> np.ndarray:
    """Two dimensions of the embeddings by t-SNE of their cosine distances (N, 2), with a fixed seed."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(embeddings_NP) - 1) / 3)
    return TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=0).fit_transform(embeddings_NP)


def finding_groups(labels: list[Mapping[str, Any]]) -> list[str]:
    """The rarest positive finding of each case, or ``NO_FINDING``."""
    counts = Counter(name for case in labels for name, value in case.items() if value == 1)
    present = [[name for name, value in case.items() if value == 1] for case in labels]
    return [min(names, key=lambda name: (counts[name], name)) if names else NO_FINDING for names in present]
