"""Open every file of a manifest, and list problems by kind and the training text of the cases.

    python tools/misc/verify_dataset.py data/ct/manifest.jsonl --workers 4

Errors stop training or make it incorrect; warnings should be checked. The exit code is 1 if there is any problem
(``--errors-only``: any error), otherwise 0. ``ctvlm verify`` does the same; its ``--json`` prints the problems.
"""

from __future__ import annotations

import argparse
import sys


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", help="path or fsspec URL")
    parser.add_argument("--split", help="verify only this split")
    parser.add_argument(
        "--allow-outside", action="store_true", help="trust the manifest: accept files outside its folder"
    )
    parser.add_argument("--scheme", help="region scheme: name or path")
    parser.add_argument("--no-checksums", action="store_true", help="do not compare stored files with their checksums")
    parser.add_argument("--errors-only", action="store_true", help="omit warnings")
    parser.add_argument("--rows", type=int, default=20, help="cases to list per kind of problem (0: all)")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--out", metavar="FILE", help="write all problems to this JSON file")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Verify; returns the exit code."""
    args = parse_args(argv)
    from ctvlm.cli.verify_manifest import verify_manifest
    from ctvlm.engine.cli.errors import run_tool

    checksums = not args.no_checksums
    return run_tool(
        lambda: verify_manifest(
            args.manifest,
            args.split,
            args.scheme,
            checksums,
            args.errors_only,
            args.rows,
            args.workers,
            args.out,
            allow_outside=args.allow_outside,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
