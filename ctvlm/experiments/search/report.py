"""Table and plots of the results of a study."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import optuna
from optuna.trial import TrialState
from rich.table import Table

from ctvlm.experiments.search.search_space import Search
from ctvlm.utils import atomic_write


def best_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Completed trials, best first."""
    completed = study.get_trials(states=(TrialState.COMPLETE,))
    maximize = study.direction == optuna.study.StudyDirection.MAXIMIZE
    return sorted(completed, key=lambda trial: trial.values[0], reverse=maximize)


def trials_table(study: optuna.Study, search: Search, shown: int = 10) -> Table:
    """Table of the best trials and their parameters."""
    counts = Counter(trial.state.name.lower() for trial in study.trials)
    title = f"{study.study_name}: {', '.join(f'{n} {state}' for state, n in sorted(counts.items()))}"
    table = Table(title=title, title_justify="left")
    table.add_column("trial", justify="right")
    table.add_column(search.metric, justify="right")
    for parameter in search.space:
        table.add_column(parameter.key.removeprefix("model."), overflow="fold")
    table.add_column("minutes", justify="right")
    for trial in best_trials(study)[:shown]:
        values = [trial.params.get(parameter.key) for parameter in search.space]
        cells = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
        minutes = trial.duration.total_seconds() / 60 if trial.duration else float("nan")
        table.add_row(str(trial.number), f"{trial.value:.4g}", *cells, f"{minutes:.1f}")
    return table


def write_plots(study: optuna.Study, search: Search, folder: Path) -> Iterator[Path]:
    """Write plots of the study as PNG files and yield their paths.

    ``history`` and ``slice`` (metric over each parameter) need one completed trial; ``parallel_coordinate`` and
    ``importances`` need two trials with different values.
    """
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from optuna.visualization import matplotlib as plots

    completed = best_trials(study)
    functions: dict[str, Callable[..., Any]] = {}
    if completed:
        functions |= {"history": plots.plot_optimization_history, "slice": plots.plot_slice}
    if len({trial.value for trial in completed}) > 1:
        functions |= {
            "parallel_coordinate": plots.plot_parallel_coordinate,
            "importances": plots.plot_param_importances,
        }
    for name, plot in functions.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plot(study, target_name=search.metric)
        figure = plt.gcf()
        figure.set_size_inches(max(8, 4 * len(search.space)) if name == "slice" else 9, 5)
        if name == "slice":
            for axes in figure.axes:
                axes.tick_params(axis="x", which="both", labelsize=8, rotation=30)
                axes.set_xlabel(".".join(axes.get_xlabel().split(".")[-2:]))
        path = folder / f"{name}.png"
        with atomic_write(path) as part:
            figure.savefig(part, dpi=120, bbox_inches="tight")
        plt.close(figure)
        yield path
