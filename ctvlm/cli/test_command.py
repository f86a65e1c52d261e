"""ctvlm test, and tools/test.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctvlm.cli.arguments import CfgOptions, Config, Debug, Launcher, LauncherOption, LocalRank, WorkDir

# Config keys that this command sets from its own arguments.
ARGUMENTS = {
    "launcher": "--launcher",
    "load_from": "CHECKPOINT",
    "resume": "CHECKPOINT",
    "load_strict": "CHECKPOINT (whose weights must fit the model)",
}


def _known_suffixes(out: list[str] | None) -> list[str] | None:
    for path in out or []:
        if Path(path).suffix.lower() not in (".pt", ".json", ".csv"):
            raise typer.BadParameter(f"found '{path}'; expected a .pt (predictions), .json or .csv (metrics) file")
    return out


def _at_least_one(bootstrap: int | None) -> int | None:
    if bootstrap is not None and bootstrap < 1:
        raise typer.BadParameter(f"--bootstrap is {bootstrap}; expected at least 1")
    return bootstrap


def test_command(
    config: Config,
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="[CHECKPOINT]",
            help="checkpoint file, or folder of a released model; not needed if the config names published weights",
        ),
    ] = None,
    work_dir: WorkDir = None,
    out: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            callback=_known_suffixes,
            help="write predictions to a .pt file, or metrics to a .json or .csv file; can be repeated",
        ),
    ] = None,
    bootstrap: Annotated[
        int | None,
        typer.Option(
            metavar="N", callback=_at_least_one, help="resamples of patients for 95% intervals, for example 1000"
        ),
    ] = None,
    plots: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="write figures (metrics, ROC, reliability, map of embeddings) and predictions"
        ),
    ] = None,
    cfg_options: CfgOptions = None,
    launcher: LauncherOption = Launcher.none,
    debug: Debug = False,
    local_rank: LocalRank = None,
) -> None:
    """Test a checkpoint on the test data of a config.

    Prints a table and writes test_results.json and test_results.csv to the work folder. With a dump of predictions,
    tools/analysis_tools/eval_predictions.py computes metrics again without the model.
    """
    from ctvlm.engine import (
        ConfigError,
        CTVLMRunner,
        init_distributed,
        load_config,
        quiet_warnings,
        set_work_dir,
    )
    from ctvlm.engine.checkpoint.release import read_weights
    from ctvlm.engine.cli.config_options import parse_options
    from ctvlm.engine.cli.evaluator_config import set_test_metrics
    from ctvlm.engine.cli.metrics_table import write_metrics
    from ctvlm.engine.cli.result_plots import PLOT_KEYS, write_plots
    from ctvlm.engine.launch_variables import set_launch_variables
    from ctvlm.engine.model_wrapper import unwrap_model
    from ctvlm.evaluation import load_dump
    from ctvlm.utils import check_out_file, check_out_folder

    # Sets RANK first: an error of all processes is printed once.
    runner_launcher = set_launch_variables(launcher.value)
    quiet_warnings()
    outs = out or []
    for path in outs:
        check_out_file("--out", path)
    if plots:
        check_out_folder("--plots", plots)
    cfg = load_config(config, parse_options(cfg_options or []), ARGUMENTS)
    if cfg.get("test_dataloader") is None:
        raise ConfigError(f"config {config} has no test_dataloader")
    if checkpoint is not None:
        read_weights(checkpoint)  # report a wrong path before the data set is built
    set_work_dir(cfg, work_dir)
    cfg.launcher, cfg.load_from, cfg.resume, cfg.load_strict = runner_launcher, checkpoint, False, True
    dumps = [path for path in outs if path.lower().endswith(".pt")]
    plot_dump = str(Path(plots) / "predictions.pt") if plots else None
    dev_first = set_test_metrics(cfg, config, bootstrap, [*dumps, *([plot_dump] if plot_dump else [])])
    if plot_dump and (keys := cfg.test_evaluator[-1].get("keys")) is not None:
        cfg.test_evaluator[-1]["keys"] = sorted({*keys, *PLOT_KEYS})
    init_distributed(runner_launcher, cfg.get("env_cfg", {}).get("dist_cfg"))
    runner = CTVLMRunner.from_cfg(cfg)
    if checkpoint is None and not getattr(unwrap_model(runner.model), "training_data", None):
        raise ConfigError(f"config {config}: its model has random weights. Name a CHECKPOINT after the config")
    if dev_first:
        runner.val()
    metrics = runner.test()
    if runner.rank == 0:
        for path in outs:
            if path not in dumps:
                write_metrics(path, metrics, config=config, checkpoint=checkpoint)
        if plots and plot_dump:
            outs = [*outs, *map(str, write_plots(plots, load_dump(plot_dump), metrics)), plot_dump]
        for path in (*outs, *(f"{runner.work_dir}/test_results.{kind}" for kind in ("json", "csv"))):
            print(f"written: {path}")
