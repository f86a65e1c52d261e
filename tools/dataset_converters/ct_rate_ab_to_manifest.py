"""Convert CT-RATE-AB to a case manifest: conversations on CT-RATE volumes, and pairs of a chosen and a rejected answer.

All turns of a volume become the steps of one case, each with its question. The pairs are kept in
``extra.preferences``; rejected answers are wrong on purpose and never become steps.

    python tools/dataset_converters/ct_rate_ab_to_manifest.py CT-RATE CT-RATE/ab.jsonl --records CT-RATE-AB
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
    parser.add_argument(
        "--records", type=Path, nargs="+", required=True, help=".json or .jsonl files, or folders of them"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write the manifest; returns the exit code."""
    args = parse_args(argv)
    from ctvlm.datasets.conversion import ct_rate_ab_cases, open_ct_rate, prepare_ct_rate, run_converter

    return run_converter(lambda: ct_rate_ab_cases(open_ct_rate(args), args.records), args, prepare_ct_rate)


if __name__ == "__main__":
    sys.exit(main())
