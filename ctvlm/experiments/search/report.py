"""What a study has found: a table and plots."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import optuna
from optuna.trial import TrialState
from rich.table import Table

from ctvlm.experiments.search.search_space import Search


def best_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Completed trials, best first."""
    done = study.get_trials(states=(TrialState.COMPLETE,))
    return sorted(done, key=lambda t: t.value, reverse=study.direction == optuna.study.StudyDirection.MAXIMIZE)


def trials_table(study: optuna.Study, search: Search, shown: int = 10) -> Table:
    """The best trials with what was varied."""
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
        minutes = trial.duration.total_seconds() / 60
        table.add_row(str(trial.number), f"{trial.value:.4g}", *cells, f"{minutes:.1f}")
    return table


def draw(study: optuna.Study, search: Search, folder: Path) -> Iterator[Path]:
    """Write the study's plots (PNG): what every trial scored, over each varied key, over all of them together, and how
    much of the differences each key explains. Without a finished trial none, and the last two need two that differ.
    """
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from optuna.visualization import matplotlib as plots

    done = best_trials(study)
    wanted = {"history": plots.plot_optimization_history, "slice": plots.plot_slice} if done else {}
    if len({trial.value for trial in done}) > 1:
        wanted |= {"parallel_coordinate": plots.plot_parallel_coordinate, "importances": plots.plot_param_importances}
    for name, plot in wanted.items():
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
        figure.savefig(path, dpi=120, bbox_inches="tight")
        plt.close(figure)
        yield path
