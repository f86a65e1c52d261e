"""An output argument that cannot be written is one line and exit code 2, before anything is computed or written."""

from __future__ import annotations

import pytest

from ctvlm import cli

TOY = "tests/test_engine/toy_config.py"
# Arguments of commands; FILE is a file where a folder is expected, FOLDER the opposite, BELOW is inside a file.
COMMANDS = {
    "train": [TOY, "--work-dir", "FILE"],
    "train below": [TOY, "--work-dir", "BELOW"],
    "test": [TOY, "a.pth", "--out", "FOLDER.pt"],
    "test plots": [TOY, "a.pth", "--plots", "FILE"],
    "verify": ["manifest.jsonl", "--out", "FOLDER"],
    "classify": ["a.nii.gz", "-o", "BELOW.csv"],
    "embed": ["a.nii.gz", "--out", "FILE"],
    "embed table": ["a.nii.gz", "--out", "FOLDER.parquet"],
    "segment": ["a.nii.gz", "--out", "FILE"],
    "segment file": ["a.nii.gz", "-o", "FOLDER.nii.gz"],
    "search": ["a.nii.gz", "--index", "FILE"],
    "view": ["a.nii.gz", "-o", "FOLDER.html"],
}
TOOLS = {
    "analysis_tools/eval_predictions.py": ["a.pt", "--out", "FOLDER.json"],
    "analysis_tools/compare_models.py": ["a.pt", "--out", "FILE"],
    "analysis_tools/region_dice.py": ["a.py", "a.pth", "a.jsonl", "--out", "FOLDER.json"],
    "analysis_tools/analyze_logs.py": ["plot_curve", "run", "--out", "FOLDER.png"],
    "analysis_tools/ablate.py": ["--work-dir", "FILE"],
    "analysis_tools/linear_probe.py": ["configs/vit3d_cot_contrastive.py", "a.pth", "--work-dir", "FILE"],
    "preprocess.py": ["a.jsonl", "FILE", "--spacing", "3", "3", "3"],
    "visualization/vis_attention.py": [TOY, "a.pth", "a.nii.gz", "--out", "FILE"],
    "visualization/browse_dataset.py": ["a.jsonl", "--out", "FILE"],
    "visualization/draw_viewer.py": ["--out", "FOLDER.png"],
    "dataset_converters/write_phantom.py": ["FILE"],
    "dataset_converters/folder_to_manifest.py": ["DATA", "FOLDER"],
    "model_converters/publish.py": ["a.pth", "FILE"],
    "model_converters/export_encoder.py": ["a.pth", "FOLDER.onnx"],
    "model_converters/inflate_timm_vit.py": ["--weights", "a.pth", TOY, "vit", "FOLDER"],
}


@pytest.fixture
def paths(tmp_path):
    """Replaces the names in arguments by paths."""
    (tmp_path / "file").write_text("kept")
    (tmp_path / "data").mkdir()

    def replace(argument: str) -> str:
        if argument.startswith("FOLDER"):
            folder = tmp_path / argument.lower()
            folder.mkdir()
            return str(folder)
        names = {"FILE": "file", "BELOW": "file/new", "DATA": "data"}
        for name, place in names.items():
            if argument.startswith(name):
                return str(tmp_path / place) + argument.removeprefix(name)
        return argument

    return replace


def check(code: int, err: str, tmp_path) -> None:
    lines = err.strip().split("\n")
    assert code == 2 and len(lines) == 2, err  # the second names --debug
    assert str(tmp_path) in lines[0] and "expected" in lines[0], err
    assert (tmp_path / "file").read_text() == "kept"
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith("folder")} == {"file", "data"}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command, paths, tmp_path, repo_root, monkeypatch, capsys):
    monkeypatch.chdir(repo_root)
    code = cli.run_command(command.split()[0], [paths(a) for a in COMMANDS[command]], "ctvlm")
    check(code, capsys.readouterr().err, tmp_path)


@pytest.mark.parametrize("script", TOOLS)
def test_tools(script, tool, paths, tmp_path):
    outcome = tool(script, *(paths(argument) for argument in TOOLS[script]))
    check(outcome.code, outcome.err, tmp_path)
