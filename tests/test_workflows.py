"""The workflows for a public host: their commands and files exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from tests.test_dependencies import ALL, EXTRAS, SETUP

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
JOBS = {
    f"{path.stem}/{name}": job
    for path in WORKFLOWS
    for name, job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].items()
}
PROGRAMS = {"pip", "pytest", "ruff", "mypy"}


def commands(job: dict) -> list[list[str]]:
    return [shlex.split(line) for step in job["steps"] for line in step.get("run", "").splitlines()]


def test_workflows_are_there():
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "nightly.yml"]


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_commands_exist(job):
    assert commands(job)
    for program, *arguments in commands(job):
        assert program in PROGRAMS
        assert program in ALL or program == "pip"
        for extra in re.findall(r"\.\[(\w+)\]", " ".join(arguments)):
            assert extra in EXTRAS
        files = [word for word in arguments if word.startswith(".ci/")]
        assert all((ROOT / word).is_file() for word in files)
    caches = [step["with"]["cache-dependency-path"] for step in job["steps"] if "cache" in step.get("with", {})]
    assert all((ROOT / path).is_file() for path in caches)


def test_python_versions():
    versions = JOBS["ci/test"]["strategy"]["matrix"]["python-version"]
    assert versions == ["3.10", "3.11", "3.12", "3.13"]
    assert SETUP["options"]["python_requires"] == f">={versions[0]}"
    setups = [step["with"] for step in JOBS["ci/lowest-versions"]["steps"] if "python-version" in step.get("with", {})]
    (lowest,) = [setup["python-version"] for setup in setups]
    assert lowest == versions[0]


def test_slow_tests_run_at_night():
    assert any("--runslow" in call for call in commands(JOBS["nightly/slow-tests"]))


def test_linters_run_as_in_the_local_script():
    local = (ROOT / ".ci/run").read_text(encoding="utf-8")
    for call in commands(JOBS["ci/lint"]):
        if call[0] != "pip":
            assert shlex.join(call) in local
