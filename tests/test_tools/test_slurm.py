"""SLURM scripts, with programs that stand for srun and scontrol."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest

from ctvlm.engine.launch_variables import set_launch_variables
from ctvlm.utils import CTVLMError

TOY = "tests/test_engine/toy_config.py"
LAUNCH = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# Starts --ntasks processes as srun does, with a list of hosts that scontrol expands.
SRUN = f"""#!{sys.executable}
import json, os, subprocess, sys
from pathlib import Path
options = [word for word in sys.argv[1:] if word.startswith("--") and "=" in word]
options = options[:sys.argv[1:].index(os.environ["PYTHON"])]
command = sys.argv[1:][len(options):]
Path(__file__).with_name("srun.json").write_text(json.dumps([options, command]))
values = dict(option[2:].split("=", 1) for option in options)
tasks = values["ntasks"]
step = dict(SLURM_NTASKS=tasks, SLURM_NODELIST="local[host,other]", SLURM_JOB_ID=os.environ["FAKE_JOB_ID"])
if "FAKE_ECHO" not in os.environ:
    processes = [
        subprocess.Popen(command, env={{**os.environ, **step, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)}})
        for i in range(int(tasks))
    ]
    sys.exit(max(process.wait() for process in processes))
"""
SCONTROL = """#!/bin/sh
[ "$*" = 'show hostnames local[host,other]' ] || { echo "unexpected: $*" >&2; exit 1; }
echo localhost
echo other
"""


@pytest.fixture
def cluster(tmp_path):
    """Folder of the programs, and the environment variables of the shell."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder, {"PATH": f"{folder}:{os.environ['PATH']}", "FAKE_JOB_ID": "123456"}


@pytest.fixture
def no_launcher(monkeypatch):
    for name in list(os.environ):
        if name in LAUNCH or name.startswith(("SLURM_", "OMPI_")):
            monkeypatch.delenv(name)
    for name in LAUNCH:  # so that monkeypatch restores what the function sets
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


def calls(folder: Path) -> tuple[list[str], list[str]]:
    return json.loads((folder / "srun.json").read_text())


@pytest.mark.parametrize("script", ["slurm_train.sh", "slurm_test.sh", "slurm_run.sh"])
def test_help_and_too_few_arguments(shell, script):
    outcome = shell(f"tools/{script}", "--help")
    assert outcome.code == 0
    assert f"tools/{script} PARTITION JOB_NAME" in outcome.out
    assert "GPUS_PER_NODE" in outcome.out and "SRUN_ARGS" in outcome.out and "PY_ARGS" in outcome.out
    assert len(outcome.out.splitlines()) < 24
    outcome = shell(f"tools/{script}", "gpu", "name")
    assert outcome.code == 2
    assert "'gpu name'" in outcome.err and len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["GPUS", "GPUS_PER_NODE", "CPUS_PER_TASK"])
def test_invalid_number(shell, cluster, name):
    outcome = shell("tools/slurm_train.sh", "gpu", "name", TOY, **cluster[1], **{name: "two"})
    assert outcome.code == 2
    assert f"{name} is 'two'" in outcome.err


def test_missing_srun(shell, tmp_path):
    for name in ("bash", "env", "dirname"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    outcome = shell("/bin/bash", "tools/slurm_train.sh", "gpu", "name", TOY, PATH=str(tmp_path))
    assert outcome.code == 2
    assert "srun is not installed" in outcome.err


def test_arguments_of_srun_and_of_the_script(shell, cluster):
    folder, variables = cluster
    variables |= {"FAKE_ECHO": "1", "GPUS": "16", "CPUS_PER_TASK": "3", "SRUN_ARGS": "--time=1:00 --qos=low"}
    outcome = shell("tools/slurm_train.sh", "gpu", "align", TOY, "out put", "--resume", **variables, PY_ARGS="--amp")
    assert outcome.code == 0, outcome.err
    options, command = calls(folder)
    assert {"--partition=gpu", "--job-name=align", "--ntasks=16", "--ntasks-per-node=8"} <= set(options)
    assert {"--gres=gpu:8", "--cpus-per-task=3", "--time=1:00", "--qos=low"} <= set(options)
    given = ["tools/train.py", TOY, "--work-dir", "out put", "--resume", "--launcher", "slurm", "--amp"]
    assert command[1:] == ["-u", *given]
    outcome = shell("tools/slurm_test.sh", "gpu", "test", TOY, "last.pth", "--out", "m.json", **variables)
    assert calls(folder)[1][2:] == ["tools/test.py", TOY, "last.pth", "--out", "m.json", "--launcher", "slurm"]


@pytest.mark.slow
def test_training_on_two_tasks_resumes_without_a_path(shell, cluster, tmp_path):
    variables = cluster[1] | {"GPUS": "2"}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        variables["MASTER_PORT"] = str(probe.getsockname()[1])
    train = ("tools/slurm_train.sh", "cpu", "toy", TOY, tmp_path / "run")
    outcome = shell(*train, "--cfg-options", "train_cfg.max_epochs=1", **variables)
    assert outcome.code == 0, outcome.err
    assert " on 2 processes" in outcome.out
    assert "Traceback" not in outcome.err
    outcome = shell(*train, "--resume", "--cfg-options", "train_cfg.max_epochs=2", **variables)
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("epoch 2/2  validation: toy/error") == 1
    assert "epoch 1/2  validation" not in outcome.out


@pytest.mark.parametrize(
    ("launcher", "name"),
    [("pytorch", "RANK"), ("slurm", "SLURM_PROCID"), ("mpi", "OMPI_COMM_WORLD_RANK")],
)
def test_outside_of_the_launcher(tool, tmp_path, no_launcher, launcher, name):
    outcome = tool("train.py", TOY, "--launcher", launcher, "--work-dir", tmp_path / "run")
    assert outcome.code == 2
    assert f"--launcher {launcher}: the environment variable {name} " in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "run").exists()


def test_variables_of_slurm(no_launcher, cluster):
    no_launcher.setenv("PATH", cluster[1]["PATH"])
    step = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "123456"}
    for name, value in step.items():
        no_launcher.setenv(name, value)
    no_launcher.setenv("SLURM_NODELIST", "local[host,other]")
    assert set_launch_variables("slurm") == "pytorch"
    assert [os.environ[name] for name in LAUNCH] == ["5", "8", "1", "localhost", str(15000 + 123456 % 15000)]


@pytest.mark.parametrize(
    ("hosts", "path", "message"), [("n[1-2]", "", "set MASTER_ADDR"), ("n[1-2]", None, "unexpected: show hostnames")]
)
def test_host_of_rank_0_is_unknown(no_launcher, cluster, hosts, path, message):
    no_launcher.setenv("PATH", cluster[1]["PATH"] if path is None else path)
    for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"):
        no_launcher.setenv(name, "0")
    no_launcher.setenv("SLURM_NODELIST", hosts)
    with pytest.raises(CTVLMError, match=message):
        set_launch_variables("slurm")


def test_variables_of_mpi(no_launcher):
    for name, value in {"RANK": "1", "SIZE": "2", "LOCAL_RANK": "1"}.items():
        no_launcher.setenv(f"OMPI_COMM_WORLD_{name}", value)
    with pytest.raises(CTVLMError, match="MASTER_ADDR"):
        set_launch_variables("mpi")
    no_launcher.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "2")
    assert set_launch_variables("mpi") == "pytorch"
    assert [os.environ[name] for name in LAUNCH] == ["1", "2", "1", "127.0.0.1", "29500"]


SLEEPING_SRUN = """#!/bin/sh
echo "srun $*" >> "$CALLS"
exit "$SRUN_CODE"
"""
RECORD = """#!/bin/sh
printf '%s' "$(basename "$0")" >> "$CALLS"
printf ' <%s>' "$@" >> "$CALLS"
echo >> "$CALLS"
"""


@pytest.fixture
def recorded(tmp_path):
    """Environment variables with programs that record their calls, and the recorded lines."""
    for name, text in (("srun", SLEEPING_SRUN), ("scontrol", RECORD), ("sbatch", RECORD)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    calls = tmp_path / "calls"
    calls.touch()
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls), "GPUS": "2"}, calls


@pytest.mark.parametrize(
    ("code", "requeue", "requeued"), [("138", "1", True), ("143", "1", False), ("0", "1", False), ("138", "0", False)]
)
def test_only_an_interruption_before_the_time_limit_is_requeued(shell, recorded, code, requeue, requeued):
    variables, calls = recorded
    job = dict(SRUN_CODE=code, REQUEUE=requeue, SLURM_JOB_ID="17")
    outcome = shell("tools/slurm_train.sh", "gpu", "name", TOY, **variables, **job)
    assert outcome.code == int(code)
    assert ("scontrol <requeue> <17>" in calls.read_text().splitlines()) == requeued


@pytest.mark.parametrize(("restarts", "given", "count"), [("1", [], 1), ("0", [], 0), ("1", ["--resume", "a.pth"], 1)])
def test_a_requeued_job_resumes(shell, recorded, restarts, given, count):
    variables, calls = recorded
    job = dict(SRUN_CODE="0", REQUEUE="1", SLURM_JOB_ID="17", SLURM_RESTART_COUNT=restarts)
    assert shell("tools/slurm_train.sh", "gpu", "name", TOY, *given, **variables, **job).code == 0
    assert calls.read_text().split().count("--resume") == count


def test_a_job_is_submitted_that_receives_a_signal_before_its_time_limit(shell, recorded):
    variables, calls = recorded
    settings = dict(REQUEUE="1", SAVE_SECONDS="60", SRUN_ARGS="--time=1:00:00")
    train = ("tools/slurm_train.sh", "gpu", "name", TOY, "out put", "--amp")
    outcome = shell(*train, **variables, **settings, SLURM_JOB_ID="")
    assert outcome.code == 0, outcome.err
    (line,) = calls.read_text().splitlines()
    assert line.startswith("sbatch <--partition=gpu> <--job-name=name> <--gres=gpu:2> <--ntasks=2>")
    assert "<--requeue> <--signal=USR1@60>" in line and "<--time=1:00:00>" in line
    assert f"<tools/slurm_train.sh gpu name {TOY} out\\ put --amp >" in line
    outcome = shell(*train, **variables, **{**settings, "SAVE_SECONDS": "soon"}, SLURM_JOB_ID="")
    assert outcome.code == 2 and "SAVE_SECONDS is 'soon'" in outcome.err
