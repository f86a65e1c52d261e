"""Environment variables that the launcher of distributed training sets."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping

from ctvlm.utils import CTVLMError

# Variables of rank, number of processes and rank on this machine.
_VARIABLES = {
    "pytorch": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
}
_START = {
    "pytorch": "tools/dist_train.sh or torchrun",
    "slurm": "tools/slurm_train.sh or srun",
    "mpi": "mpirun of Open MPI",
}


def set_launch_variables(launcher: str) -> str:
    """Set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT from the variables of the launcher.

    MASTER_ADDR and MASTER_PORT are kept if they are set. The port of a SLURM job is derived from its id, so that two
    jobs on one machine do not share a port.

    Args:
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.

    Returns:
        The launcher of the Runner: ``none`` or ``pytorch``.

    Raises:
        CTVLMError: the process was not started by the launcher, or the address of rank 0 is unknown.
    """
    if launcher == "none":
        return "none"
    missing = [name for name in _VARIABLES[launcher] if not os.environ.get(name, "").isdigit()]
    if missing:
        raise CTVLMError(
            f"--launcher {launcher}: the environment variable {missing[0]} is not set to a number. Start with "
            f"{_START[launcher]}, or omit --launcher for a single process"
        )
    values = [os.environ[name] for name in _VARIABLES[launcher]]
    if launcher == "slurm":
        os.environ.setdefault("MASTER_ADDR", _slurm_host(os.environ))
        os.environ.setdefault("MASTER_PORT", str(_slurm_port(os.environ)))
    elif launcher == "mpi":
        if os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == os.environ["OMPI_COMM_WORLD_SIZE"]:
            os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "29500")
    if "MASTER_ADDR" not in os.environ:
        raise CTVLMError(f"--launcher {launcher}: set MASTER_ADDR to the host of rank 0")
    os.environ.update(zip(_VARIABLES["pytorch"], values))
    return "pytorch"


def _slurm_host(variables: Mapping[str, str]) -> str:
    """First host of the job step."""
    hosts = variables.get("SLURM_STEP_NODELIST") or variables.get("SLURM_NODELIST") or "127.0.0.1"
    if re.fullmatch(r"[\w.-]+", hosts):
        return hosts
    if (scontrol := shutil.which("scontrol")) is None:
        raise CTVLMError(f"--launcher slurm: no scontrol to expand '{hosts}'; set MASTER_ADDR to the host of rank 0")
    done = subprocess.run([scontrol, "show", "hostnames", hosts], capture_output=True, text=True)
    if done.returncode or not done.stdout.strip():
        reason = (done.stderr.strip() or "no output").split("\n")[-1]
        raise CTVLMError(f"--launcher slurm: scontrol show hostnames {hosts}: {reason}; set MASTER_ADDR")
    return done.stdout.split()[0]


def _slurm_port(variables: Mapping[str, str]) -> int:
    job = variables.get("SLURM_JOB_ID", "")
    return 15000 + int(job) % 15000 if job.isdigit() else 29500
