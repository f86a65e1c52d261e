"""Convert RadGenome-ChestCT to a case manifest: sentences with anatomy and region masks on CT-RATE volumes.

RADGENOME contains the region reports, the VQA tables (if any) and the ``seg_<volume>`` folders. A sentence gets the
regions of its anatomy, limited to those that it mentions.

    python tools/dataset_converters/radgenome_to_manifest.py RADGENOME radgenome.jsonl --ct-rate CT-RATE
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ctvlm.engine.cli.converter_arguments import add_common_arguments, add_ct_rate_arguments


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("radgenome", type=Path, metavar="RADGENOME", help="root of RadGenome-ChestCT")
    add_common_arguments(parser)
    parser.add_argument("--ct-rate", type=Path, required=True, help="root of CT-RATE, which contains dataset/")
    add_ct_rate_arguments(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write the manifest; returns the exit code."""
    args = parse_args(argv)
    from ctvlm.datasets.conversion import open_ct_rate, prepare_ct_rate, radgenome_cases, run_converter

    return run_converter(lambda: radgenome_cases(args.radgenome, open_ct_rate(args)), args, prepare_ct_rate)


if __name__ == "__main__":
    sys.exit(main())
