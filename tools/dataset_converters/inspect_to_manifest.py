"""Convert INSPECT to a case manifest: CT pulmonary angiograms with impression and labels, in the published splits.

ROOT contains ``CTPA/`` and the tables ``study_mapping_*.tsv``, ``impressions_*.tsv``, ``splits_*.tsv`` and
``labels_*.tsv``. The reports have no findings. Files with four axes or a broken orientation are found from their
headers, left out, and listed in ``MANIFEST.dropped.tsv``.

    python tools/dataset_converters/inspect_to_manifest.py INSPECT INSPECT/manifest.jsonl
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ctvlm.engine.cli.converter_arguments import add_common_arguments


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of CTPA/ and the tables")
    add_common_arguments(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write the manifest; returns the exit code."""
    args = parse_args(argv)
    from ctvlm.datasets.conversion import inspect_cases, prepare_inspect, run_converter

    return run_converter(lambda: inspect_cases(args.root, args.scheme), args, prepare_inspect)


if __name__ == "__main__":
    sys.exit(main())
