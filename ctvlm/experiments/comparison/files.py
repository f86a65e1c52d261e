"""Files of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctvlm.engine.checkpoint import write_json
from ctvlm.engine.checkpoint.files import AtomicLocalBackend
from ctvlm.evaluation.functional.published import PublishedFigure
from ctvlm.experiments.comparison.figure import comparison_figure
from ctvlm.experiments.comparison.scores import ModelScores
from ctvlm.experiments.comparison.table import csv_text, markdown, published_csv
from ctvlm.utils import atomic_write
from ctvlm.utils.code_version import code_version


def write_comparison(
    folder: str | Path,
    models: Sequence[ModelScores],
    title: str,
    published: Sequence[PublishedFigure],
    **origin: Any,
) -> list[Path]:
    """Write table.md, table.csv, table.json, published.csv and metrics.png; returns their paths.

    Args:
        origin: further information for the JSON file, such as the data and the protocols.
    """
    folder = Path(folder)
    texts = {
        "table.md": markdown(models, title, published),
        "table.csv": csv_text(models),
        "published.csv": published_csv(published),
    }
    for name, text in texts.items():
        AtomicLocalBackend().put_text(text, folder / name)
    content = dict(
        ctvlm=code_version(), **origin, reference=models[0].name, models=[model.to_dict() for model in models],
        published=[figure.to_dict() for figure in published],
    )  # fmt: skip
    write_json(folder / "table.json", content)
    with atomic_write(folder / "metrics.png") as part:
        comparison_figure(models).savefig(part, dpi=150)
    return [folder / name for name in (*texts, "table.json", "metrics.png")]
