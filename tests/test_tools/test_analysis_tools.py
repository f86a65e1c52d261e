"""Tools that measure time and memory of the encoder."""

from __future__ import annotations

import importlib.util
import json

import pytest


@pytest.fixture
def tool(repo_root):
    def load(name):
        spec = importlib.util.spec_from_file_location(name, repo_root / "tools" / "analysis_tools" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_benchmark_measures_time_and_memory(tool, tmp_path, capsys):
    path = tmp_path / "figures.json"
    benchmark = tool("benchmark_attention")
    small = ["--heads", "2", "--head-dims", "8", "--device", "cpu"]
    benchmark.main(
        ["--tokens", "64", "--repeats", "2", "--dense", "--memory-tokens", "4096", "--json", str(path), *small]
    )
    figures = json.loads(path.read_text())
    assert figures["ratio"] == figures["seconds"]["slice_aware"] / figures["seconds"]["sdpa"]
    assert set(figures["seconds"]) == {"sdpa", "slice_aware", "dense", "full_layer", "slice_aware_layer"}
    # At least queries, keys and values, and far less than N x N scores (128 MiB).
    assert 3 * 4096 * 16 * 4 < figures["peak_bytes"]["4096"] < 2**26
    assert "SDPA" in capsys.readouterr().out


def test_growth_exponent(tool):
    exponent = tool("benchmark_attention").growth_exponent
    assert exponent({1: 10, 4: 40}) == pytest.approx(1)
    assert exponent({1: 10, 4: 160}) == pytest.approx(2)


def test_benchmark_rejects_invalid_numbers_of_tokens(tool, capsys):
    with pytest.raises(SystemExit):
        tool("benchmark_attention").main(["--tokens", "100"])
    assert "16" in capsys.readouterr().err


def test_encoder_memory_measures_the_backbone_of_a_config(tool, tmp_path):
    config, path = tmp_path / "small.py", tmp_path / "figures.json"
    config.write_text(
        "model = dict(backbone=dict(type='ThreeDVisionEncoder', img_size=(4, 16, 16),"
        " embed_dims=24, depth=2, patch_embed=dict(patch_size=(2, 8, 8)), block=dict(num_heads=2)))"
    )
    tool("encoder_memory").main([str(config), "--json", str(path)])
    figures = json.loads(path.read_text())
    assert figures["tokens"] == 8
    assert figures["finite_gradients"] is True
    assert figures["checkpointing"] is True
    assert figures["peak_rss_gib"] < 20


def test_memory_of_the_literal_specification(tool):
    """12.9 GB of attention scores per layer and a mask convolution of 51.5 GB at the sizes of the specification."""
    memory = tool("encoder_memory")

    class Spec:
        class Block:
            class attention:
                num_heads = 12

        blocks = [Block] * 12
        patch_size = (4, 16, 16)
        embed_dims = 768

    convolution, block, softmax = memory.literal_bytes(Spec, (64, 512, 512), 1).values()
    assert convolution == pytest.approx(2 * 51.5e9, rel=1e-2)
    assert block == pytest.approx(4 * 12.9e9, rel=1e-2)
    assert softmax == pytest.approx(12 * 12.9e9, rel=1e-2)


def test_encoder_memory_rejects_configs_without_an_encoder(tool, tmp_path):
    config = tmp_path / "empty.py"
    config.write_text("model = dict(type='X')")
    with pytest.raises(ValueError, match=r"model\.backbone"):
        tool("encoder_memory").main([str(config)])
