"""Command lines of browse_dataset.py and benchmark_data.py."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ctvlm.datasets import write_manifest
from ctvlm.volume import CTVolume, write_nifti


@pytest.fixture
def manifest(tmp_path):
    hu = np.random.default_rng(0).integers(-1000, 300, (12, 24, 24)).astype(np.int16)
    write_nifti(CTVolume(hu, np.diag([2.0, 2.0, 3.0, 1.0])), tmp_path / "ct.nii.gz")
    cases = [dict(case_id=f"p/{i}", patient_id=f"p{i}", split="train", volume="ct.nii.gz") for i in range(3)]
    write_manifest(cases, tmp_path / "cases.jsonl")
    return tmp_path / "cases.jsonl"


def test_browse_manifest(tool, manifest, tmp_path):
    browse = "visualization/browse_dataset.py"
    done = tool(browse, manifest, "--out", tmp_path / "a", "-n", "2", "--dpi", "40", "--windows", "lung")
    assert done.code == 0 and sorted(p.name for p in (tmp_path / "a").iterdir()) == ["p_0.png", "p_1.png"]
    done = tool(browse, manifest, "--out", tmp_path / "b", "--cases", "p/2", "--dpi", "40", "--windows", "lung")
    assert done.code == 0 and [p.name for p in (tmp_path / "b").iterdir()] == ["p_2.png"]
    done = tool(browse, manifest, "--out", tmp_path / "c", "--cases", "unknown")
    assert done.code == 2 and "--cases" in done.err


def test_browse_config(tool, tmp_path, manifest):
    config = tmp_path / "config.py"
    config.write_text(
        f"""
train_dataloader = dict(dataset=dict(type="ManifestCT", ann_file={str(manifest)!r}, pipeline=[
    dict(type="LoadCT"), dict(type="RandomFlipCT", p=1.0), dict(type="PackCTInputs")]))
"""
    )
    browse = "visualization/browse_dataset.py"
    done = tool(browse, config, "--out", tmp_path / "a", "-n", "1", "--dpi", "40", "--windows", "lung")
    assert done.code == 0, done.err
    assert len(list((tmp_path / "a").iterdir())) == 1
    done = tool(browse, config, "--split", "val", "--out", tmp_path / "a")
    assert done.code == 2 and "val_dataloader" in done.err


def test_benchmark(tool, manifest, tmp_path):
    pytest.importorskip("blosc2", reason="the store needs Blosc2: pip install 'ctvlm[store]'")
    volume, options = manifest.parent / "ct.nii.gz", ("--shape", 8, 16, 16, "--crop", 4, 8, 8, "--repeats", 1)
    done = tool("analysis_tools/benchmark_data.py", volume, *options, "--json", tmp_path / "a.json")
    assert done.code == 0, done.err
    figures = json.loads((tmp_path / "a.json").read_text())
    assert {"torchio", "ctvlm, from the file", "ctvlm, from the store"} <= set(figures)
    assert "ctvlm, from the store" in done.out
    done = tool("analysis_tools/benchmark_data.py", volume, *options, "--formats")
    assert done.code == 0 and "Blosc2" in done.out
