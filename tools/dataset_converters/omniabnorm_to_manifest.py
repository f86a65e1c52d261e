"""Convert OmniAbnorm-CT to a case manifest: chain-of-thought records on volumes, or 14K images as thin volumes.

The format is detected from the file: a list of records with ``cot_reasoning``, or an object of case id to ``image``.
The 14K images are windowed 8-bit slices of unknown spacing. They become volumes of 2 to 9 slices under a window and a
spacing that you declare; both are stored with each case, and HU outside the window are lost. Use them for text and
localization, not for tasks that depend on HU or millimetres.

    python tools/dataset_converters/omniabnorm_to_manifest.py cot.json omniabnorm.jsonl
    python tools/dataset_converters/omniabnorm_to_manifest.py train.json thin.jsonl --window 40 400 --spacing 5 0.8 0.8
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ctvlm.engine.cli.converter_arguments import add_common_arguments


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path, help=".json or .jsonl file of the records")
    add_common_arguments(parser)
    parser.add_argument("--root", type=Path, help="base of its paths; default: the folder of the file")
    parser.add_argument(
        "--patient-regex",
        help="finds the patient in the case id (group 1 if any); default: text before the first _ or -",
    )
    parser.add_argument("--val-fraction", type=float, default=0.05, help="fraction of patients, if no split is given")
    parser.add_argument("--test-fraction", type=float, default=0.1, help="fraction of patients, if no split is given")
    thin = parser.add_argument_group("14K images")
    thin.add_argument(
        "--window", type=float, nargs=2, metavar=("CENTRE", "WIDTH"), help="HU window of the values 0..255"
    )
    thin.add_argument("--spacing", type=float, nargs=3, metavar=("Z", "Y", "X"), help="mm: slices, rows, columns")
    thin.add_argument("--plane", choices=("axial", "coronal", "sagittal"), help="plane of cases without one")
    thin.add_argument("--planes", nargs="+", default=["axial"], help="planes to keep")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write the manifest; returns the exit code."""
    args = parse_args(argv)
    from rich.console import Console

    from ctvlm.datasets.conversion import (
        omniabnorm_14k_cases,
        omniabnorm_cot_cases,
        prepare_omniabnorm_14k,
        run_converter,
    )

    shared = dict(
        root=args.root,
        scheme=args.scheme,
        patient_regex=args.patient_regex,
        val=args.val_fraction,
        test=args.test_fraction,
    )
    if not is_14k(args.json):
        return run_converter(lambda: omniabnorm_cot_cases(args.json, **shared), args)
    if args.window is None or args.spacing is None:
        message = "14K images have no HU and no spacing: set --window CENTRE WIDTH and --spacing Z Y X"
        Console().print(message, style="red", markup=False)
        return 2
    out = args.out.absolute().parent / f"{args.out.stem}_volumes"
    thin = dict(window=args.window, spacing=args.spacing, plane=args.plane, planes=args.planes)
    return run_converter(lambda: omniabnorm_14k_cases(args.json, out, **thin, **shared), args, prepare_omniabnorm_14k)


def is_14k(path: Path) -> bool:
    """Return whether the file is an object of case id to ``{image, ...}``."""
    from ctvlm.datasets.conversion.tables import read_json

    try:
        raw, _ = read_json(path)
    except (OSError, ValueError):
        return False  # the converter reports the error
    return isinstance(raw, dict) and bool(raw) and all(isinstance(e, dict) and "image" in e for e in raw.values())


if __name__ == "__main__":
    sys.exit(main())
