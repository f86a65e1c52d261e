"""Run a script with torchrun: python tools/dist_run.py PROCESSES SCRIPT [arguments of the script]

It uses a free port (or the environment variable PORT), divides the CPU cores among the processes, and does not print a
traceback of the launcher if a process has failed. For several machines, set NNODES, NODE_RANK, MASTER_ADDR and PORT.
"""

from __future__ import annotations

import logging
import os
import socket
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun


def free_port() -> int:
    """Find an unused port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main() -> int:
    """Start the processes. Returns 0, or the exit code of the first failed process."""
    processes, script = int(sys.argv[1]), sys.argv[2:]
    nodes = int(os.environ.get("NNODES", 1))
    port = os.environ.get("PORT") or (free_port() if nodes == 1 else 29500)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    os.environ.setdefault("MKL_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        torchrun(
            [
                f"--nproc-per-node={processes}",
                f"--nnodes={nodes}",
                f"--node-rank={os.environ.get('NODE_RANK', 0)}",
                f"--master-addr={os.environ.get('MASTER_ADDR', '127.0.0.1')}",
                f"--master-port={port}",
                *script,
                "--launcher=pytorch",
            ]
        )
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        print(f"process {rank} failed with exit code {failure.exitcode}; all processes were stopped", file=sys.stderr)
        return abs(failure.exitcode) or 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
