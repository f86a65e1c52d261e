"""Command-line arguments of the tools in tools/dataset_converters."""

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


def add_ct_rate_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of converters that use CT-RATE volumes."""
    parser.add_argument("--release", choices=("auto", "v1", "v2"), default="auto", help="v1: stored values; v2: HU")
    parser.add_argument(
        "--masks", type=Path, help="folder of region maps; default: ts_seg/ts_total next to the volumes"
    )
    parser.add_argument(
        "--labels", type=Path, help="corrected labels (CSV: VolumeName and findings); default: CT-RATE's"
    )
    parser.add_argument("--mask-source", default="totalsegmentator_v2", help="label map of the region maps")
    parser.add_argument("--dev-fraction", type=float, default=0.02, help="fraction of training patients in split 'val'")
    parser.add_argument("--valid-as", default="test", help="split of the published 'valid'")
