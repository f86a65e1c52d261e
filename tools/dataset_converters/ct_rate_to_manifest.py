"""Convert CT-RATE (v1 or v2) to a case manifest: volumes, reports, labels, metadata, region maps.

ROOT is the folder that contains ``dataset/``. Only volumes on disk are converted. The sentences of the findings become
reasoning steps with the regions that they mention. A fraction of the training patients is in ``val``, the others are
in ``train``; the published ``valid`` becomes ``test``. Every file is opened, and files of the other release are
dropped.

    python tools/dataset_converters/ct_rate_to_manifest.py CT-RATE CT-RATE/manifest.jsonl --workers 16
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ctvlm.engine.cli.converter_arguments import add_common_arguments, add_ct_rate_arguments


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct_rate", type=Path, metavar="ROOT", help="root of CT-RATE, which contains dataset/")
    add_common_arguments(parser)
    add_ct_rate_arguments(parser)
    parser.add_argument("--allow-no-report", action="store_true", help="keep volumes without a report")
    parser.add_argument("--one-per-scan", action="store_true", help="keep one chest reconstruction per scan")
    parser.add_argument(
        "--set",
        dest="evaluation_set",
        choices=("all", "first", "nohead", "colipri"),
        help="keep one evaluation set: all volumes, the first of each scan, without heads, of COLIPRI",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write the manifest; returns the exit code."""
    args = parse_args(argv)
    from ctvlm.datasets.conversion import ct_rate_cases, open_ct_rate, prepare_ct_rate, run_converter

    return run_converter(
        lambda: ct_rate_cases(open_ct_rate(args), args.allow_no_report, args.one_per_scan, args.evaluation_set),
        args,
        prepare_ct_rate,
    )


if __name__ == "__main__":
    sys.exit(main())
