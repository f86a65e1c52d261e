"""Files, commands, flags and names in the documents exist."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import ctvlm
from ctvlm.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    path for folder in ("", "configs/**/", "tools/**/", "projects/**/") for path in ROOT.glob(f"{folder}*.md")
)
SCRIPT = re.compile(r"(?:python )?(?:tools|projects)/\S+\.(?:py|sh)\b|ctvlm \w+")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def in_backticks(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))


def commands(text: str) -> list[list[str]]:
    """Calls of scripts in code blocks and in backticks, as words."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.S)
    lines = [line for block in blocks for line in block.splitlines()] + in_backticks(text)
    calls = [part.strip() for line in lines for part in line.split("#")[0].split("&&")]
    return [shlex.split(call) for call in calls if SCRIPT.match(call)]


COMMANDS = sorted({tuple(call) for path in DOCUMENTS for call in commands(read(path))})


@cache
def help_of(script: str, *task: str) -> str:
    command = [sys.executable, str(ROOT / script), *task, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=600, cwd=ROOT).stdout


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_exist(path):
    links = re.findall(r"\]\(([^)#]+)\)", read(path))
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_paths_exist(path):
    words = [word for text in in_backticks(read(path)) for word in text.split()]
    paths = [word for word in words if re.match(r"(ctvlm|configs|tools|projects|tests|\.ci|\.github)/[\w./*-]+$", word)]
    # Paths are relative to the repository, or to the folder of the document.
    missing = [word for word in paths if not any(list(top.glob(word.rstrip("/"))) for top in (ROOT, path.parent))]
    assert not missing


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_names_exist(path):
    """``ctvlm.package.Name`` in a document can be imported."""
    for text in in_backticks(read(path)):
        if re.fullmatch(r"ctvlm(\.\w+)+", text):
            module, _, attribute = text.rpartition(".")
            parent = importlib.import_module(module)
            assert hasattr(parent, attribute) or importlib.import_module(text)


@pytest.mark.parametrize("call", COMMANDS, ids=" ".join)
def test_files_of_a_command_exist(call):
    words = [word for word in call if re.match(r"(tools|configs|projects)/", word)]
    assert words or call[0] == "ctvlm"
    for word in words:
        assert list(ROOT.glob(word.rstrip("/"))), word


@pytest.mark.parametrize("call", [call for call in COMMANDS if call[0] == "ctvlm"], ids=" ".join)
def test_flags_of_ctvlm_exist(call):
    command: Any = typer.main.get_command(app).commands.get(call[1])
    assert command is not None
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.split("=")[0] for word in call if word.startswith("-")} <= known


@pytest.mark.parametrize("call", [call for call in COMMANDS if call[0] == "python"], ids=" ".join)
def test_flags_of_a_command_exist(call):
    script = call[3] if call[1] == "tools/dist_run.py" else call[1]
    flags = {word.split("=")[0] for word in call if word.startswith("--")}
    text = help_of(script)
    if tasks := re.search(r"\{([\w,-]+)\} \.\.\.", text):
        text += "".join(help_of(script, word) for word in call if word in tasks[1].split(","))
    missing = [flag for flag in flags if not re.search(rf"{flag}\b", text)]
    assert not missing


def test_every_tool_and_preset_is_listed():
    tools = {name(path) for path in ROOT.glob("tools/**/*") if path.suffix in (".py", ".sh")}
    presets = {path.name for path in ROOT.glob("configs/*.py")}
    projects = {path.parent.name for path in ROOT.glob("projects/*/README.md")}
    for document, names in (("tools", tools), ("configs", presets), ("projects", projects)):
        text = read(ROOT / document / "README.md")
        assert not {item for item in names if item not in text}


def test_citation_names_the_version():
    citation = yaml.safe_load(read(ROOT / "CITATION.cff"))
    assert citation["version"] == ctvlm.__version__
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
