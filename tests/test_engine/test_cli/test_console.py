"""The terminal shows each warning that a user can act on once."""

import logging
import multiprocessing
import warnings
from pathlib import Path

from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

import ctvlm
from ctvlm.engine.cli.config import load_config
from ctvlm.engine.cli.console import quiet_logger, quiet_warnings
from ctvlm.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS


def test_frozen_weights_give_no_warning(repo_root, tmp_path, capsys):
    init_default_scope("ctvlm")
    logger = MMLogger.get_instance("frozen", log_file=str(tmp_path / "run.log"))
    quiet_logger(logger)
    cfg = load_config(repo_root / "configs/vit3d_cot_contrastive.py")
    model = MODELS.build({**cfg.model, "frozen": ["backbone"]})
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type=cfg.optim_wrapper.constructor,
            optim_wrapper_cfg=dict(type="OptimWrapper", optimizer=cfg.optim_wrapper.optimizer),
            paramwise_cfg=cfg.optim_wrapper.paramwise_cfg,
        )
    )
    constructor(model)
    logger.log(logging.WARNING, "something to act on")
    printed = capsys.readouterr().err.splitlines()
    assert printed == ["WARNING: something to act on"]
    assert "requires_grad=False" in (tmp_path / "run.log").read_text()


def _warn(text: str) -> None:
    # A separate registry, because reading a file resets Python's registry of warnings.
    filename = str(Path(ctvlm.__file__).parent / "datasets" / "manifest_ct.py")
    warnings.warn_explicit(text, UserWarning, filename, 1, registry={})


def test_warnings_of_data_workers_are_printed_once(capfd):
    others = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda *args: others.append(args[2])
        quiet_warnings()
        for _ in range(2):
            worker = multiprocessing.get_context("fork").Process(target=_warn, args=("case p1: a mask is empty",))
            worker.start()
            worker.join()
        _warn("case p1: a mask is empty")
        _warn("case p2: a mask is empty")
        warnings.warn_explicit("from elsewhere", UserWarning, "/other/library.py", 7)
    printed = capfd.readouterr().err.splitlines()
    assert printed == ["warning: case p1: a mask is empty", "warning: case p2: a mask is empty"]
    assert others == ["/other/library.py"]
