"""The terminal: what a user can act on, once."""

import logging

from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from ctvlm.engine.config import load_config
from ctvlm.engine.console import quiet_logger
from ctvlm.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS


def test_a_frozen_part_is_no_reason_to_warn(repo_root, tmp_path, capsys):
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
    said = capsys.readouterr().err.splitlines()
    assert said == ["WARNING: something to act on"]
    assert "requires_grad=False" in (tmp_path / "run.log").read_text()
