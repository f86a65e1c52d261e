"""setup.cfg declares every package that ctvlm and tools import, with a lower bound that CI tests."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
EXTRAS = SETUP["options.extras_require"]
# Import name → distribution, where they differ.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "rouge_score": "rouge-score",
    "bert_score": "bert-score",
    "yaml": "pyyaml",
    "faiss": "faiss-cpu",
    "open_clip": "open_clip_torch",
    "merlin": "merlin-vlm",
    "spectre": "spectre-fm",
}
# Imported by name in ctvlm/evaluation/report_scorers.py; GREEN is not on PyPI.
REPORT_SCORERS = {"RaTEScore", "radgraph", "bert-score"}
# Declared for mmengine (setuptools), for torch.onnx (onnx, onnxscript) or for fsspec (aiohttp), read as a file
# (ipyniivue), or run as a command or process (ipykernel).
NOT_IMPORTED = {
    "setuptools", "onnx", "onnxscript", "ipyniivue", "pytest-xdist", "ruff", "mypy", "pre-commit", "open_clip_torch",
    "ipykernel", "aiohttp",
}  # fmt: skip


def declared(text: str) -> dict[str, str]:
    """Distribution → version specifier."""
    lines = [line.partition("#")[0].partition(";")[0].strip() for line in text.split("\n")]
    return {re.split(r"[<>=]", line)[0]: line[re.search(r"[<>=]|$", line).start() :] for line in lines if line}


REQUIRED = declared(SETUP["options"]["install_requires"])
ALL = REQUIRED | {key: value for extra in EXTRAS.values() for key, value in declared(extra).items()}


def imported(*folders: str) -> set[str]:
    """Distributions that the Python files of these folders import, at any depth of their code."""
    names = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names.add(node.module.partition(".")[0])
    names -= set(sys.stdlib_module_names) | {"ctvlm", "tools", "projects", "tests", "setuptools"}
    return {DISTRIBUTIONS.get(name, name) for name in names}


def test_every_import_is_declared():
    assert not imported("ctvlm", "tools") - set(ALL)


def test_every_declared_package_is_imported():
    assert not set(ALL) - imported("ctvlm", "tools", "tests", "projects") - REPORT_SCORERS - NOT_IMPORTED


@pytest.mark.parametrize("name", sorted(ALL))
def test_lower_bound(name):
    assert ALL[name].startswith(">=")


def test_lowest_versions_are_those_of_setup_cfg():
    lines = (ROOT / ".ci/lowest.txt").read_text(encoding="utf-8").split("\n")
    lowest = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    tested = REQUIRED | declared(EXTRAS["test"])
    assert lowest == {name: bound.split(",")[0].removeprefix(">=") for name, bound in tested.items()}


def test_types_are_packaged():
    assert "py.typed" in SETUP["options.package_data"]["ctvlm"].split()
    assert (ROOT / "ctvlm/py.typed").is_file()
