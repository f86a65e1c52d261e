"""The command line of each tool answers before torch and other large packages are imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
SCRIPTS = sorted(path.relative_to(TOOLS).as_posix() for path in TOOLS.rglob("*.py"))
HEAVY = ("torch", "mmengine", "transformers", "nibabel", "numpy", "matplotlib")
# Prints what a script has imported when it exits.
RUN = """
import atexit, runpy, sys
atexit.register(lambda: print("imported:", *sorted(set(sys.modules) & set(%r.split()))))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", RUN % " ".join(HEAVY), str(TOOLS / script), *arguments]
    return subprocess.run(command, cwd=TOOLS.parent, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_and_usage_errors_import_no_large_package(script):
    done = run(script, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()
    assert done.stdout.splitlines()[-1] == "imported:"
    done = run(script, "--no-such-option")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines() == ["imported:"]
