"""Read a store with many cases from a server, as from an object store, and from the local disk.

    python tools/analysis_tools/benchmark_store.py data/store/manifest.jsonl --cases 10000 --latency 10

Copies the cases of a store until there are enough, serves them by HTTP on this machine, and reads each epoch with the
data set and the data loader of a training. The first epoch also reads the checksums. Each request waits ``--latency``
ms, because object stores take 10 to 100 ms. Needs ``pip install "ctvlm[remote,store]"``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from ctvlm.engine import run_tool


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, help="manifest of a local store (tools/preprocess.py)")
    parser.add_argument("--cases", type=int, default=10_000, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=2, help="data workers (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="cases per batch (default: %(default)s)")
    parser.add_argument("--latency", type=float, default=0.0, metavar="MS", help="default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the results")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    args = parser.parse_args(argv)
    if min(args.cases, args.epochs, args.workers, args.batch) < 1 or args.latency < 0:
        parser.error("--cases, --epochs, --workers and --batch must be at least 1, and --latency at least 0")
    return args


def main(argv: list[str] | None = None) -> None:
    """Copy, serve, read and print."""
    args = parse_args(argv)
    from dataclasses import asdict

    from ctvlm.engine import quiet_warnings, write_json
    from ctvlm.engine.cli.console import stdout_console
    from ctvlm.experiments.benchmark.report import rows_table
    from ctvlm.experiments.benchmark.store_reads import read_epochs, repeat_store
    from ctvlm.experiments.benchmark.store_server import served
    from ctvlm.utils import check_out_file

    if args.out:
        check_out_file("--out", args.out)
    quiet_warnings()
    pipeline = [dict(type="LoadStore"), dict(type="PackCTInputs")]
    reading = (pipeline, args.epochs, args.workers, args.batch)
    with tempfile.TemporaryDirectory(prefix="ctvlm_") as folder:
        manifest = repeat_store(args.manifest, Path(folder), args.cases)
        epochs = read_epochs("local disk", str(manifest), *reading)
        with served(folder, args.latency / 1000) as server:
            epochs += read_epochs("HTTP", f"{server.url}/{manifest.name}", *reading, server)
    title = f"{args.workers} data workers, {args.latency:g} ms per request"
    stdout_console().print(rows_table([epoch.row() for epoch in epochs], title))
    if args.out:
        write_json(args.out, dict(workers=args.workers, latency_ms=args.latency, epochs=list(map(asdict, epochs))))
        print(f"results written to {args.out}")


if __name__ == "__main__":
    sys.exit(run_tool(main))
