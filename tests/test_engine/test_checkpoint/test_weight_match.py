from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from ctvlm.engine import CheckpointError, CTVLMRunner
from ctvlm.utils.weight_match import check_fits, load_matching, match_weights


class WithTokenizer(nn.Module):
    def __init__(self, length):
        super().__init__()
        self.layer = nn.Linear(2, 3)
        self.register_buffer("tokenizer_bytes", torch.zeros(length, dtype=torch.uint8))


def test_fits():
    saved = {"state_dict": {f"module.{k}": v for k, v in WithTokenizer(7).state_dict().items()}}
    check_fits(WithTokenizer(0), saved, "x.pth")  # the length of a tokenizer and the prefix of DDP are ignored


def test_differences_of_another_architecture_are_listed():
    saved = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(2, 2, bias=False), "c": nn.Linear(1, 1)}).state_dict()
    model = nn.ModuleDict({"a": nn.Linear(2, 4), "b": nn.Linear(2, 2)})
    with pytest.raises(CheckpointError) as info:
        check_fits(model, {"state_dict": saved, "meta": {"experiment_name": "small_run"}}, "x.pth")
    message = str(info.value)
    for part in (
        "(b.bias)",
        "(c.weight, c.bias)",
        "(a.weight (3, 2) instead of (4, 2), a.bias (3,) instead of (4,))",
        "small_run",
    ):
        assert part in message


def parts(*names, width=3):
    return nn.ModuleDict({name: nn.Linear(2, width) for name in names})


def test_matching_weights_are_loaded():
    model, saved = parts("backbone", "head"), parts("backbone", "decoder")
    saved["head"] = nn.Linear(2, 4)
    head = model["head"].weight.clone()
    match = load_matching(model, {"state_dict": saved.state_dict()}, "x.pth")
    assert torch.equal(model["backbone"].weight, saved["backbone"].weight)
    assert torch.equal(model["head"].weight, head)
    assert match.matched == ["backbone.weight", "backbone.bias"] and match.missing == []
    assert list(match.reshaped) == ["head.weight", "head.bias"]
    assert match.unexpected == ["decoder.weight", "decoder.bias"]
    assert all(fact in match.summary() for fact in ("2 of the model's 4", "(head 2)", "(decoder 2)"))
    assert "  head.weight (4, 2) instead of (3, 2)" in match.details().splitlines()
    assert not match.complete and match_weights(model, {"state_dict": model.state_dict()}).complete


def test_no_matching_weight_is_an_error():
    with pytest.raises(CheckpointError, match=r"x\.pth .*weight, bias.* a\.weight"):
        load_matching(parts("a"), {"state_dict": nn.Linear(2, 3).state_dict()}, "x.pth")


def test_warm_start_prints_a_summary_and_logs_the_details(toy_config, tmp_path, capsys):
    saved = {"net.0.weight": torch.ones(16, 8), "net.9.bias": torch.ones(1)}
    torch.save({"state_dict": saved}, tmp_path / "start.pth")
    cfg = toy_config(load_from=str(tmp_path / "start.pth"), load_strict=False)
    runner = CTVLMRunner.from_cfg(cfg)
    runner.load_or_resume()
    out, err = capsys.readouterr()
    assert "1 of the model's 4 weights" in out and "(net 3)" in out and "(net 1)" in out
    assert err == ""
    (log,) = Path(cfg.work_dir).glob("*/*.log")
    assert "(1):\n  net.9.bias" in log.read_text()
    assert torch.equal(runner.model.net[0].weight.data, saved["net.0.weight"])
