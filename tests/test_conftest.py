"""Options of the tests, also if only a project is tested."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "outcome"), [("projects/first_steps", "1 skipped"), ("projects", "")])
def test_tests_of_projects_have_the_same_options(repo_root, folder, outcome):
    options = ["-p", "no:cacheprovider", *(() if outcome else ("--runslow", "--collect-only"))]
    command = [sys.executable, "-m", "pytest", folder, *options]
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcome in done.stdout
