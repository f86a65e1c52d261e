"""torchrun with ctvlm's defaults: python tools/dist_run.py PROCESSES SCRIPT [arguments of the script]

A free port (or PORT), the machine's cores shared among the processes, and no traceback of the launcher where
a process has already said what is wrong. Several machines: NNODES, NODE_RANK, MASTER_ADDR and PORT.
"""

from __future__ import annotations

import logging
import os
import socket
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main() -> int:
    """Start the processes; returns 0, or the exit code of the first that failed."""
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
        print(f"process {rank} ended with exit code {failure.exitcode}, and with it the others", file=sys.stderr)
        return abs(failure.exitcode) or 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
