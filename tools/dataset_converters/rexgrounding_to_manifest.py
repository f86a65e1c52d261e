"""Convert ReXGroundingCT to a case manifest: findings with masks on CT-RATE volumes.

The (F, H, W, D) masks are written as one lesion map per finding (values are instances) into ``lesions/`` next to the
manifest, with the geometry of the CT. The splits are those of dataset.json.

    python tools/dataset_converters/rexgrounding_to_manifest.py ReXGroundingCT rex.jsonl --ct-rate CT-RATE
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ctvlm.engine.cli.converter_arguments import add_common_arguments, add_ct_rate_arguments


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rexgrounding", type=Path, metavar="REX", help="folder with dataset.json and segmentations/")
    add_common_arguments(parser)
    parser.add_argument("--ct-rate", type=Path, required=True, help="root of CT-RATE, which contains dataset/")
    parser.add_argument("--finding-masks", type=Path, help="folder of the (F, H, W, D) masks, if not inside REX")
    add_ct_rate_arguments(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write the manifest; returns the exit code."""
    args = parse_args(argv)
    from ctvlm.datasets.conversion import open_ct_rate, prepare_rexgrounding, rexgrounding_cases, run_converter

    lesions = args.out.absolute().parent / "lesions"
    return run_converter(
        lambda: rexgrounding_cases(args.rexgrounding, open_ct_rate(args), lesions, args.finding_masks),
        args,
        prepare_rexgrounding,
    )


if __name__ == "__main__":
    sys.exit(main())
