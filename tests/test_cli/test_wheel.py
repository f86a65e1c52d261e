"""An installed wheel works from an empty folder, without the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
SOURCES = ("ctvlm", "configs", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@dataclass
class Wheel:
    site: Path
    names: list[str]

    def run(self, folder: Path, *arguments: object) -> subprocess.CompletedProcess:
        """Run the installed ``ctvlm`` in a folder, with nothing of the repository on the path."""
        environment = {**os.environ, "PYTHONPATH": str(self.site), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, self.site / "bin" / "ctvlm", *arguments]
        return subprocess.run(
            list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, timeout=1800
        )


@pytest.fixture(scope="module")
def wheel(repo_root, tmp_path_factory):
    """A wheel that is built from a copy of the sources, and installed in an empty folder."""
    root = tmp_path_factory.mktemp("wheel")
    source = root / "source"
    source.mkdir()
    for name in SOURCES:
        path = repo_root / name
        if path.is_dir():
            shutil.copytree(path, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source)
    build = [*PIP, "wheel", source, "--no-deps", "--no-build-isolation", "--no-index", "-w", root]
    subprocess.run(build, check=True, timeout=1800)
    (file,) = root.glob("*.whl")
    install = [*PIP, "install", file, "--no-deps", "--no-index", "--target", root / "site"]
    subprocess.run(install, check=True, timeout=1800)
    return Wheel(root / "site", zipfile.ZipFile(file).namelist())


@pytest.mark.slow
def test_configs_and_models_are_in_the_wheel(wheel, repo_root):
    packed = {name.removeprefix("ctvlm/") for name in wheel.names if name.startswith("ctvlm/configs/")}
    assert packed == {path.relative_to(repo_root).as_posix() for path in (repo_root / "configs").rglob("*.py")}
    weights = {name.removeprefix("ctvlm/") for name in wheel.names if name.startswith("ctvlm/weights/")}
    folder = repo_root / "ctvlm"
    assert weights == {path.relative_to(folder).as_posix() for path in folder.glob("weights/*/*")}
    assert {name.partition("/")[0].partition("-")[0] for name in wheel.names} == {"ctvlm"}


@pytest.mark.slow
def test_commands_from_an_empty_folder(wheel, tmp_path):
    done = wheel.run(tmp_path, "--help")
    assert done.returncode == 0 and "train" in done.stdout, done.stderr
    done = wheel.run(tmp_path, "list", "configs", "--json")
    assert done.returncode == 0, done.stderr
    assert "vit3d_cot_contrastive" in [row["name"] for row in json.loads(done.stdout)["configs"]]
    done = wheel.run(tmp_path, "train", "vit3d_cot_contrastive", "--cfg-options", "model.widht=3")
    assert done.returncode == 2 and "'widht'" in done.stderr, done.stderr
    done = wheel.run(tmp_path, "train", "vit3d_cot_contrastve")
    assert done.returncode == 2 and "did you mean vit3d_cot_contrastive" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_embed_and_segment_from_an_empty_folder(wheel, released_model, phantoms, tmp_path):
    for command, file in (("embed", "features/p1.npz"), ("segment", "regions/p1.nii.gz")):
        done = wheel.run(tmp_path, command, phantoms, "--model", released_model, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["done"] == 2 and (tmp_path / file).is_file()
