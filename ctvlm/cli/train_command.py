"""ctvlm train, and tools/train.py."""

from __future__ import annotations

from typing import Annotated

import typer

from ctvlm.cli.arguments import CfgOptions, Config, Debug, Launcher, LauncherOption, LocalRank, WorkDir, flag


def train_command(
    config: Config,
    work_dir: WorkDir = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="[CHECKPOINT]", help="checkpoint to resume from (default: the last one in the work folder)"
        ),
    ] = None,
    amp: Annotated[bool, flag("--amp", help="use mixed precision")] = False,
    compile_encoder: Annotated[bool, flag("--compile", help="compile the vision encoder with torch.compile")] = False,
    no_validate: Annotated[bool, flag("--no-validate", help="do not validate during training")] = False,
    auto_scale_lr: Annotated[bool, flag("--auto-scale-lr", help="scale the learning rate with the batch size")] = False,
    seed: Annotated[int | None, typer.Option(metavar="N", help="random seed (default: the config's)")] = None,
    cfg_options: CfgOptions = None,
    launcher: LauncherOption = Launcher.none,
    debug: Debug = False,
    local_rank: LocalRank = None,
) -> None:
    """Train a model from a config.

    Example: ctvlm train vit3d_cot_contrastive
    """
    import os
    from contextlib import nullcontext

    from ctvlm.engine import (
        CTVLMRunner,
        drop_validation,
        enable_amp,
        enable_lr_scaling,
        init_distributed,
        load_config,
        quiet_warnings,
        set_resume,
        set_work_dir,
    )
    from ctvlm.engine.cli.config_options import parse_options
    from ctvlm.engine.cli.streams import outlive_full_streams
    from ctvlm.engine.launch_variables import set_launch_variables
    from ctvlm.engine.run_lock import run_lock

    # Sets RANK first: an error of all processes is printed once.
    runner_launcher = set_launch_variables(launcher.value)
    quiet_warnings()
    outlive_full_streams()
    cfg = load_config(config, parse_options(cfg_options or []), {"launcher": "--launcher"})
    set_work_dir(cfg, work_dir)
    cfg.launcher = runner_launcher
    if seed is not None:
        cfg.merge_from_dict({"randomness.seed": seed})
    if amp:
        enable_amp(cfg)
    if compile_encoder:
        cfg.compile = cfg.get("compile") or True
    if no_validate:
        drop_validation(cfg)
    if auto_scale_lr:
        enable_lr_scaling(cfg)
    if resume and set_resume(cfg, resume) is None and int(os.environ.get("RANK", 0)) == 0:
        print(f"no checkpoint to resume from in {cfg.work_dir}: training starts from the beginning")
    init_distributed(runner_launcher, cfg.get("env_cfg", {}).get("dist_cfg"))
    # Before the runner writes its config.
    with run_lock(cfg.work_dir) if int(os.environ.get("RANK", 0)) == 0 else nullcontext():
        CTVLMRunner.from_cfg(cfg).train()
