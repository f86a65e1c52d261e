"""The notebook runs from start to end in an empty folder."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "first_steps.ipynb"


@pytest.mark.slow
def test_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[2]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "clear the outputs before you commit"
    # Otherwise a kernel that starts slowly is an error, and outputs that come late are lost.
    limits = dict(timeout=600, startup_timeout=300, iopub_timeout=300)
    nbclient.NotebookClient(notebook, **limits, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    text = " ".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs)
    assert "lung_lower_lobe_left" in text and "Pneumothorax" in text
    assert (tmp_path / "regions.nii.gz").is_file()
