from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from ctvlm.engine import CheckpointError, CTVLMRunner
from ctvlm.engine.checkpoint.weight_match import check_fits, load_what_fits, match_weights


class WithTokenizer(nn.Module):
    def __init__(self, length):
        super().__init__()
        self.layer = nn.Linear(2, 3)
        self.register_buffer("tokenizer_bytes", torch.zeros(length, dtype=torch.uint8))


def test_fits():
    saved = {"state_dict": {f"module.{k}": v for k, v in WithTokenizer(7).state_dict().items()}}
    check_fits(WithTokenizer(0), saved, "x.pth")  # the tokenizer's size is free, DDP's prefix is not looked at


def test_other_architecture_names_the_differences():
    saved = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(2, 2, bias=False), "c": nn.Linear(1, 1)}).state_dict()
    model = nn.ModuleDict({"a": nn.Linear(2, 4), "b": nn.Linear(2, 2)})
    with pytest.raises(CheckpointError) as info:
        check_fits(model, {"state_dict": saved, "meta": {"experiment_name": "small_run"}}, "x.pth")
    message = str(info.value)
    for part in (
        "1 of the model's 4 weights are missing (b.bias)",
        "2 are unknown to the model (c.weight, c.bias)",
        "2 have another shape (a.weight (3, 2) instead of (4, 2), a.bias (3,) instead of (4,))",
        "small_run",
    ):
        assert part in message


def parts(*names, width=3):
    return nn.ModuleDict({name: nn.Linear(2, width) for name in names})


def test_what_fits_is_loaded_and_the_rest_is_told():
    model, saved = parts("backbone", "head"), parts("backbone", "decoder")
    saved["head"] = nn.Linear(2, 4)
    head = model["head"].weight.clone()
    match = load_what_fits(model, {"state_dict": saved.state_dict()}, "x.pth")
    assert torch.equal(model["backbone"].weight, saved["backbone"].weight)
    assert torch.equal(model["head"].weight, head)
    assert match.short() == (
        "2 of the model's 4 weights loaded; 2 of another shape (head 2); 2 unknown to the model (decoder 2)"
    )
    for line in ("loaded (2):", "  head.weight (4, 2) instead of (3, 2)", "unknown to the model (2):"):
        assert line in match.full().splitlines()
    assert not match.complete and match_weights(model, {"state_dict": model.state_dict()}).complete


def test_nothing_that_fits_is_an_error():
    with pytest.raises(CheckpointError, match=r"no weight that fits: it names weight, bias, and the model a\.weight"):
        load_what_fits(parts("a"), {"state_dict": nn.Linear(2, 3).state_dict()}, "x.pth")


def test_warm_start_reports_on_the_terminal_and_in_full_in_the_log(toy_config, tmp_path, capsys):
    saved = {"net.0.weight": torch.ones(16, 8), "net.9.bias": torch.ones(1)}
    torch.save({"state_dict": saved}, tmp_path / "start.pth")
    cfg = toy_config(load_from=str(tmp_path / "start.pth"), load_strict=False)
    runner = CTVLMRunner.from_cfg(cfg)
    runner.load_or_resume()
    out, err = capsys.readouterr()
    assert "1 of the model's 4 weights loaded; 3 missing (net 3); 1 unknown to the model (net 1)" in out
    assert err == ""
    (log,) = Path(cfg.work_dir).glob("*/*.log")
    assert "unknown to the model (1):\n  net.9.bias" in log.read_text()
    assert torch.equal(runner.model.net[0].weight.data, saved["net.0.weight"])
