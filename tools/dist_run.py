"""Run a script in several processes, as torchrun does.

    python tools/dist_run.py 8 tools/train.py CONFIG --amp

It uses a free port (or the environment variable PORT) and divides the CPU cores among the processes. If a process
fails, the others are stopped. Signals are passed on to all processes. For several machines, set NNODES, NODE_RANK,
MASTER_ADDR and PORT.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time

from ctvlm.utils.parent_watch import child_environment
from ctvlm.utils.stop_signals import STOP_SIGNALS

# Seconds that the other processes have after one has failed.
GRACE_S = 20.0


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


def variable(name: str, default: int, least: int) -> int:
    """Number in an environment variable."""
    text = os.environ.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or int(text) < least:
        sys.exit(usage_error(f"{name} is '{text}'; expected a number of at least {least}"))
    return int(text)


def usage_error(message: str) -> int:
    """Print an error; returns its exit code."""
    print(f"error: {message}", file=sys.stderr)
    return 2


def find_port(nodes: int, node: int) -> int:
    """Port of rank 0: PORT, or an unused one. One line and exit code 2 if PORT is in use."""
    port = variable("PORT", 0 if nodes == 1 else 29500, 0)
    if node:
        return port
    with socket.socket() as probe:
        # As the store of torch.distributed does: a port that was closed seconds ago can be used.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            sys.exit(usage_error(f"PORT={port}: {reason}. Set another PORT, or none for a free one"))
        return probe.getsockname()[1]


def start(args: argparse.Namespace) -> list[subprocess.Popen]:
    """Start the processes with the environment variables of torchrun."""
    count, nodes = args.processes, variable("NNODES", 1, 1)
    node = variable("NODE_RANK", 0, 0)
    threads = str(max(1, (os.cpu_count() or 1) // count))
    common = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads), **os.environ}
    common |= child_environment()
    common |= {"WORLD_SIZE": str(nodes * count), "LOCAL_WORLD_SIZE": str(count)}
    common |= {"MASTER_ADDR": os.environ.get("MASTER_ADDR", "127.0.0.1"), "MASTER_PORT": str(find_port(nodes, node))}
    command = [sys.executable, "-u", args.script, *args.arguments, "--launcher=pytorch"]
    ranks = [{"RANK": str(node * count + local), "LOCAL_RANK": str(local)} for local in range(count)]
    return [subprocess.Popen(command, env={**common, **rank}) for rank in ranks]


def wait(processes: list[subprocess.Popen], received: list[int]) -> dict[int, int]:
    """Wait for all processes, and stop them after one has failed.

    Args:
        received: signals that were passed on to the processes, which end by themselves after one.

    Returns:
        Exit code of each process by its number, in order of their ends.
    """
    ended: dict[int, int] = {}
    deadline = None
    while len(ended) < len(processes):
        for number, process in enumerate(processes):
            if number not in ended and (code := process.poll()) is not None:
                ended[number] = 128 - code if code < 0 else code
        if deadline is None and any(ended.values()):
            deadline = time.monotonic() + GRACE_S
            if not received:
                for process in processes:
                    process.terminate()
        elif deadline is not None and time.monotonic() > deadline:
            for process in processes:
                process.kill()
        time.sleep(0.05)
    return ended


def main() -> int:
    """Run the processes. Returns 0, or the exit code of the first failed process."""
    args = parse_args()
    processes: list[subprocess.Popen] = []
    received: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        received.append(number)
        for process in processes:
            process.send_signal(number)

    for number in STOP_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, pass_on)
    processes += start(args)
    for number in received:  # before they were listed
        for process in processes:
            process.send_signal(number)
    ended = wait(processes, received)
    rank, code = next(((rank, code) for rank, code in ended.items() if code), (0, 0))
    if code and code - 128 not in received:
        print(f"process {rank} failed with exit code {code}; all processes were stopped", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
