"""Convert the Merlin abdominal CT data set to a case manifest: volumes, reports and labels, in the published splits.

ROOT contains ``merlin_data/``, ``reports_final.xlsx`` (needs ``pip install 'ctvlm[excel]'``; or the sheet as CSV) and
``zero_shot_findings_disease_cls.csv``. The published column "Findings" contains the impression, too. It is split at the
impression heading; the number of reports without one is printed. A label that the report does not mention is null.

    python tools/dataset_converters/merlin_to_manifest.py Merlin Merlin/manifest.jsonl
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
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write the manifest; returns the exit code."""
    args = parse_args(argv)
    from ctvlm.datasets.conversion import merlin_cases, run_converter

    return run_converter(lambda: merlin_cases(args.root, args.scheme), args)


if __name__ == "__main__":
    sys.exit(main())
