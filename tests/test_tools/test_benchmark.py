"""Command lines of the benchmark and of the profile."""

from __future__ import annotations

import json

import pytest

CONFIG = "configs/vit3d_cot_contrastive.py"


def test_benchmark_writes_costs_growth_and_plot(tool, tmp_path):
    out, plot = tmp_path / "costs.json", tmp_path / "growth.png"
    sizes = ("--tokens", "6,24", "--repeats", "1", "--device", "cpu")
    done = tool("analysis_tools/benchmark.py", CONFIG, "--against", "timm-blocks", *sizes, "--plot", plot, "--out", out)
    assert done.code == 0, done.err
    result = json.loads(out.read_text())
    assert list(result["costs"]) == ["6", "24"]
    assert set(result["exponents"]) == {CONFIG, "timm-blocks"}
    assert plot.stat().st_size > 0
    assert "share of peak" in done.out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--against", "other"), "timm-blocks"),
        (("--tokens", "7"), "multiple of 6"),
        (("--plot", "a.png"), "--tokens"),
        (("--batches", "4", "--tokens", "6"), "nothing else"),
        (("--ranks", "2", "--batches", "4"), "nothing else"),
        (("--ranks", "2", "2"), "different numbers"),
        (("--ranks", "2", "--device", "cuda"), "on the CPU"),
        (("--scale", "--tokens", "6"), "nothing else"),
        (("--compile", "--batches", "4"), "nothing else"),
    ],
)
def test_benchmark_refuses(tool, arguments, named):
    done = tool("analysis_tools/benchmark.py", CONFIG, *arguments)
    assert done.code == 2
    assert named in done.err


def test_profile_has_every_phase_and_a_trace(tool, tmp_path):
    out, trace = tmp_path / "profile.json", tmp_path / "trace.json"
    small = ("--steps", "1", "--cases", "2", "--device", "cpu", "--cfg-options", "train_dataloader.batch_size=2")
    done = tool("analysis_tools/profile_training.py", CONFIG, "--trace", trace, "--out", out, *small)
    assert done.code == 0, done.err
    phases = json.loads(out.read_text())["phases"]
    for name in ("encoder", "text", "losses", "backward", "optimizer"):
        assert phases[name]["seconds"] > 0 and phases[name]["operators"] > 0, name
    assert json.loads(trace.read_text())["traceEvents"]
