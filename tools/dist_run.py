"""Run a script with torchrun.

    python tools/dist_run.py 8 tools/train.py CONFIG --amp

It uses a free port (or the environment variable PORT), divides the CPU cores among the processes, and does not print a
traceback of the launcher if a process has failed. For several machines, set NNODES, NODE_RANK, MASTER_ADDR and PORT.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line. Everything after the script is passed on to it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("processes", type=positive, metavar="PROCESSES", help="number of processes on this machine")
    parser.add_argument("script", metavar="SCRIPT", help="script that takes --launcher, such as tools/train.py")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="arguments of the script")
    return parser.parse_args(argv)


def positive(text: str) -> int:
    """Parse a positive number."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found '{text}'; expected a positive number of processes")
    return int(text)


def free_port() -> int:
    """Find an unused port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main() -> int:
    """Start the processes. Returns 0, or the exit code of the first failed process."""
    args = parse_args()
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    processes, script = args.processes, [args.script, *args.arguments]
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
