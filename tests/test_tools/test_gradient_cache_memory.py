from __future__ import annotations

import importlib.util
import json

import pytest


@pytest.mark.slow
def test_memory_hardly_depends_on_the_batch_size(repo_root, tmp_path):
    """With equal chunks, 16 times the batch size needs at most 1.3 times the memory."""
    spec = importlib.util.spec_from_file_location(
        "gradient_cache_memory", repo_root / "tools" / "analysis_tools" / "gradient_cache_memory.py"
    )
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    path = tmp_path / "figures.json"
    tool.main(["--cases", "4", "--batches", "16", "256", "--chunk", "8", "--device", "cpu", "--json", str(path)])
    small, large = (point["peak_bytes"] for point in json.loads(path.read_text())["points"])
    assert large <= 1.3 * small
