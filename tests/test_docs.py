"""What the documents name is there: files, commands and their flags."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("configs/**/*.md")), *sorted(ROOT.glob("projects/**/*.md"))]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def commands(text: str) -> list[list[str]]:
    """Calls of tools in code blocks and in backticks, as words."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`((?:python )?tools/[^`]+)`", text)
    calls = [part for line in lines for part in line.split("#")[0].split("&&") if "tools/" in part]
    return [shlex.split(call) for call in calls]


COMMANDS = sorted({tuple(call) for path in DOCUMENTS for call in commands(path.read_text(encoding="utf-8"))})


@cache
def help_of(tool: str) -> str:
    command = [sys.executable, str(ROOT / tool), "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("call", COMMANDS, ids=" ".join)
def test_a_command_names_files_that_are_there(call):
    words = [word for word in call if re.match(r"(tools|configs|projects)/", word)]
    assert words
    for word in words:
        assert list(ROOT.glob(word.rstrip("/"))), f"{word} is not in the repository"


@pytest.mark.parametrize("call", [call for call in COMMANDS if call[0] == "python"], ids=" ".join)
def test_a_command_uses_flags_that_its_tool_has(call):
    flags = {word.split("=")[0] for word in call if word.startswith("--")}
    missing = [flag for flag in flags if not re.search(rf"{flag}\b", help_of(call[1]))]
    assert not missing
