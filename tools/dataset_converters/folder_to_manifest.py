"""A folder of CTs with TotalSegmentator outputs to a case manifest.

Every sub-folder that holds a CT is a case. Beside the CT (or in ``segmentations/``) lie one multi-label file (a name
with "seg" or "label" in it) or one file per class (``liver.nii.gz``, ``lung_mask.nii.gz``). In a flat folder, pairs
such as ``p1.nii.gz`` and ``p1_seg.nii.gz`` are cases. Every case is opened and checked before it is kept; a run that
was killed goes on where it was.

    python tools/dataset_converters/folder_to_manifest.py DATA DATA/manifest.jsonl --source totalsegmentator_v2
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from ctvlm.anatomy import RegionScheme
from ctvlm.datasets.conversion import FolderRules, add_common_arguments, folder_cases, run_converter


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of CTs with their segmentations")
    add_common_arguments(parser)
    parser.add_argument("--source", default="totalsegmentator_v2", help="what the ids of multi-label files are")
    parser.add_argument("--ct", nargs="*", default=[], metavar="GLOB", help="names of CT files, where it is not clear")
    parser.add_argument("--lesions", nargs="*", default=[], metavar="GLOB", help="names of lesion masks")
    parser.add_argument("--allow-no-mask", action="store_true", help="keep CTs without any mask")
    parser.add_argument(
        "--patient-regex", help="finds the patient in the case's path (group 1 if any); default: the path"
    )
    parser.add_argument("--split", default="train", help="name of the split")
    parser.add_argument("--val-fraction", type=float, default=0.0, help="share of patients put in split 'val'")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write the manifest; returns the exit code."""
    args = parse_args(argv)
    console = Console()
    scheme = RegionScheme.load(args.scheme)
    if args.source not in scheme.sources:
        console.print(f"[red]--source {args.source!r} is unknown; known: {', '.join(scheme.sources)}")
        return 2
    if not args.folder.is_dir():
        console.print(f"[red]{args.folder} is not a folder")
        return 2
    names = ("source", "ct", "lesions", "allow_no_mask", "patient_regex", "split", "val_fraction")
    rules = FolderRules(**{name: getattr(args, name) for name in names})
    return run_converter(lambda: folder_cases(args.folder, scheme, rules), args, console=console)


if __name__ == "__main__":
    sys.exit(main())
