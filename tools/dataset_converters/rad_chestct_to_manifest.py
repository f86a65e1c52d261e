"""Convert Rad-ChestCT to a case manifest: ``.npz`` volumes and labels mapped to the 18 of CT-RATE.

ROOT contains the volumes and the ``img{train,valid,test}_Abnormality_and_Location_Labels.csv`` tables, whose splits are
kept. The data set has no report text. A label that the tables do not contain is null, not 0.

    python tools/dataset_converters/rad_chestct_to_manifest.py Rad-ChestCT Rad-ChestCT/manifest.jsonl
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ctvlm.engine.cli.converter_arguments import add_common_arguments


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of the volumes and tables")
    add_common_arguments(parser)
    parser.add_argument(
        "--label-map",
        choices=("literature", "ours"),
        default="literature",
        help="mapping to the labels of CT-RATE: literature (all published results) or ours (uses locations)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write the manifest; returns the exit code."""
    args = parse_args(argv)
    from ctvlm.datasets.conversion import rad_chestct_cases, run_converter

    return run_converter(lambda: rad_chestct_cases(args.root, args.label_map), args)


if __name__ == "__main__":
    sys.exit(main())
