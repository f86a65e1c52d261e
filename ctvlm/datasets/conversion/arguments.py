"""Command-line arguments of every converter."""

from __future__ import annotations

import argparse
from pathlib import Path

from ctvlm.anatomy import DEFAULT_SCHEME


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that every converter has."""
    parser.add_argument("out", type=Path, help="manifest to write (.jsonl)")
    parser.add_argument("--scheme", default=DEFAULT_SCHEME, help="region scheme: name or path")
    parser.add_argument(
        "--workers", type=int, help="processes that open the files; default: one per core for more than 16 files"
    )
    parser.add_argument(
        "--check",
        choices=("full", "files"),
        default="full",
        help="full: load every case as in training; files: check only that the files exist",
    )
