"""The default config, seed 0, trains to the same numbers as when ``frozen_values.json`` was written.

Computed in float64, so that machines agree. Run this file as a script to write new values after an intended change.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from ctvlm.engine import CTVLMRunner, load_config

ROOT = Path(__file__).resolve().parents[2]
FROZEN = Path(__file__).with_name("frozen_values.json")
STEPS = 20


class _Stop(Exception):
    """Ends the training after the last step."""


class RecordHook(Hook):
    """Losses of the first steps, and a fingerprint of the gradients of step 1 before clipping."""

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self.losses: list[dict[str, float]] = []
        self.gradients: dict[str, list[float]] = {}

    def before_train(self, runner) -> None:
        model = runner.model.double()
        window = model.data_preprocessor.window
        model.data_preprocessor.window = lambda hu: window(hu).double()
        clip = runner.optim_wrapper._clip_grad

        def record_and_clip() -> None:
            if not self.gradients:
                self.gradients = {name: fingerprint(p.grad) for name, p in model.named_parameters()}
            clip()

        runner.optim_wrapper._clip_grad = record_and_clip

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.losses.append({name: float(loss.detach()) for name, loss in outputs.items()})
        if len(self.losses) == STEPS:
            raise _Stop


def fingerprint(gradient: torch.Tensor) -> list[float]:
    """Norm, and the product with a fixed vector, which also changes if elements are exchanged."""
    flat = gradient.double().flatten()
    return [float(flat.norm()), float(flat @ torch.arange(1, len(flat) + 1, dtype=torch.float64).cos())]


def recorded(work_dir: Path) -> dict:
    cfg = load_config(ROOT / "configs/vit3d_cot_contrastive.py")
    cfg.work_dir = str(work_dir)
    for key in ("cfg", "dataloader", "evaluator"):
        cfg[f"val_{key}"] = cfg[f"test_{key}"] = None
    runner = CTVLMRunner.from_cfg(cfg)
    hook = RecordHook()
    runner.register_hook(hook)
    with pytest.raises(_Stop):
        runner.train()
    return dict(losses=hook.losses, gradients=hook.gradients)


@pytest.mark.slow
def test_losses_and_gradients_are_unchanged(tmp_path):
    frozen, found = json.loads(FROZEN.read_text()), recorded(tmp_path / "run")
    for step, (expected, losses) in enumerate(zip(frozen["losses"], found["losses"], strict=True), 1):
        assert losses == pytest.approx(expected, rel=1e-5), f"step {step}"
    assert found["gradients"].keys() == frozen["gradients"].keys()
    total = sum(norm**2 for norm, _ in frozen["gradients"].values()) ** 0.5
    for name, expected in frozen["gradients"].items():
        # Some gradients are 0 up to rounding, such as that of the bias of an attention key.
        assert found["gradients"][name] == pytest.approx(expected, rel=1e-5, abs=1e-10 * total), name


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(recorded(Path(sys.argv[1])), indent=1) + "\n")
