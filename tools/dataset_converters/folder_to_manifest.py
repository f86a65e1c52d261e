"""A folder of CTs, with TotalSegmentator outputs or reports or both, to a case manifest.

Every sub-folder that holds a CT is a case. Beside the CT (or in ``segmentations/``) lie one multi-label file (a name
with "seg" or "label" in it) or one file per class (``liver.nii.gz``, ``lung_mask.nii.gz``). In a flat folder, pairs
such as ``p1.nii.gz`` and ``p1_seg.nii.gz`` are cases. A DICOM folder is a CT. Its masks lie inside it, in a folder
above it, or beside it (``p1/`` and ``p1_seg.nii.gz``). Every case is opened and checked before it is kept; a run that
was killed goes on where it was.

    python tools/dataset_converters/folder_to_manifest.py DATA DATA/manifest.jsonl --source totalsegmentator_v2
    python tools/dataset_converters/folder_to_manifest.py DATA DATA/manifest.jsonl --reports reports.csv

A fifth of the patients, at least one, goes into split "val"; --test-fraction adds a split "test". With --reports, a CT
needs no mask. The tool prints which columns it took for ids and texts.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from rich.console import Console

from ctvlm.anatomy import RegionScheme
from ctvlm.datasets.conversion import (
    CaseList,
    FolderRules,
    ReportColumns,
    add_common_arguments,
    add_reports,
    fill_splits,
    folder_cases,
    run_converter,
    split_patients,
)

VAL_FRACTION = 0.2


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
        "--reports", type=Path, metavar="CSV", help="table with a report per CT; masks are optional then"
    )
    parser.add_argument("--id-column", help="column of --reports that names the CT (default: the one that fits best)")
    parser.add_argument(
        "--findings-column", help="column with the findings, or the whole report (default: by its name)"
    )
    parser.add_argument("--impression-column", help="column with the impression (default: by its name)")
    parser.add_argument(
        "--patient-regex", help="finds the patient in the case's path (group 1 if any); default: the path"
    )
    parser.add_argument("--split", help="put all cases into this split, in place of train and val")
    parser.add_argument("--val-fraction", type=float, help=f"share of patients in split 'val' ({VAL_FRACTION})")
    parser.add_argument("--test-fraction", type=float, help="share of patients in split 'test' (0)")
    args = parser.parse_args(argv)
    if args.split and (args.val_fraction is not None or args.test_fraction is not None):
        parser.error("--split puts all cases into one split: leave out --val-fraction and --test-fraction")
    if not args.reports and (args.id_column or args.findings_column or args.impression_column):
        parser.error("--id-column, --findings-column and --impression-column name columns of --reports CSV")
    return args


def find(args: argparse.Namespace, scheme: RegionScheme) -> CaseList:
    """Cases of the folder, with their reports."""
    names = ("source", "ct", "lesions", "patient_regex")
    rules = FolderRules(
        **{name: getattr(args, name) for name in names},
        allow_no_mask=args.allow_no_mask or args.reports is not None,
        split=args.split or "train",
    )
    found = folder_cases(args.folder, scheme, rules)
    if args.reports:
        columns = ReportColumns(args.id_column, args.findings_column, args.impression_column)
        found = add_reports(found, args.reports, columns, allow_neither=args.allow_no_mask)
    return found


def main(argv: list[str] | None = None) -> int:
    """Write the manifest; returns the exit code."""
    args = parse_args(argv)
    console = Console()
    scheme = RegionScheme.load(args.scheme)
    val = VAL_FRACTION if args.val_fraction is None else args.val_fraction
    test = args.test_fraction or 0.0
    problem = ""
    if args.source not in scheme.sources:
        problem = f"--source {args.source!r} is unknown; known: {', '.join(scheme.sources)}"
    elif not args.folder.is_dir():
        problem = f"{args.folder} is not a folder"
    else:
        try:
            split_patients([], val, test)
        except ValueError as error:
            problem = f"--val-fraction, --test-fraction: {error}"
    if problem:
        console.print(problem, style="red", markup=False)
        return 2
    assign = None if args.split else partial(fill_splits, val=val, test=test)
    return run_converter(partial(find, args, scheme), args, console=console, assign=assign)


if __name__ == "__main__":
    sys.exit(main())
