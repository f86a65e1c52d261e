"""Rad-ChestCT to a case manifest: ``.npz`` volumes and labels folded into CT-RATE's 18.

ROOT holds the volumes and the ``img{train,valid,test}_Abnormality_and_Location_Labels.csv`` tables, whose splits are
kept. The data set has no report text. An abnormality that the tables do not have is null, not 0.

    python tools/dataset_converters/rad_chestct_to_manifest.py Rad-ChestCT rad_chestct.jsonl
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ctvlm.datasets.conversion import add_common_arguments, rad_chestct_cases, run_converter
from ctvlm.datasets.conversion.rad_chestct import LABEL_MAPS


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of the volumes and tables")
    add_common_arguments(parser)
    parser.add_argument(
        "--label-map",
        choices=sorted(LABEL_MAPS),
        default="literature",
        help="fold into CT-RATE's labels: as in all published figures, or ours, which reads locations",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write the manifest; returns the exit code."""
    args = parse_args(argv)
    return run_converter(lambda: rad_chestct_cases(args.root, args.label_map), args)


if __name__ == "__main__":
    sys.exit(main())
