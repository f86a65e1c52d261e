"""Convert a folder of CTs with TotalSegmentator masks, reports or both to a case manifest.

Every sub-folder with a CT is a case. Its masks are in the same folder or in ``segmentations/``: one multi-label file
(with "seg" or "label" in its name) or one file per class (``liver.nii.gz``, ``lung_mask.nii.gz``). In a flat folder,
pairs such as ``p1.nii.gz`` and ``p1_seg.nii.gz`` are cases. A DICOM folder is one CT. Its masks are inside it, in a
parent folder, or next to it (``p1/`` and ``p1_seg.nii.gz``). Every case is opened and checked. An interrupted run
resumes when the same command is run again.

    python tools/dataset_converters/folder_to_manifest.py DATA DATA/manifest.jsonl --source totalsegmentator_v2
    python tools/dataset_converters/folder_to_manifest.py DATA DATA/manifest.jsonl --reports reports.csv

By default 20% of the patients, at least one, are in split "val"; --test-fraction adds a split "test". With --reports,
masks are optional. The tool prints which columns it uses as ids and texts.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ctvlm.engine.cli.converter_arguments import add_common_arguments

if TYPE_CHECKING:
    from ctvlm.anatomy import RegionScheme
    from ctvlm.datasets.conversion import CaseList


VAL_FRACTION = 0.2


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of CTs with their segmentations")
    add_common_arguments(parser)
    parser.add_argument("--source", default="totalsegmentator_v2", help="label map of multi-label files")
    parser.add_argument("--ct", nargs="*", default=[], metavar="GLOB", help="names of CT files, if ambiguous")
    parser.add_argument("--lesions", nargs="*", default=[], metavar="GLOB", help="names of lesion masks")
    parser.add_argument("--allow-no-mask", action="store_true", help="keep CTs without any mask")
    parser.add_argument(
        "--reports", type=Path, metavar="CSV", help="table with one report per CT; makes masks optional"
    )
    parser.add_argument("--id-column", help="column of --reports with the CT name (default: the best match)")
    parser.add_argument("--findings-column", help="column with the findings or the whole report (default: by name)")
    parser.add_argument("--impression-column", help="column with the impression (default: by name)")
    parser.add_argument(
        "--patient-regex", help="finds the patient in the case path (group 1 if any); default: the path"
    )
    parser.add_argument("--split", help="put all cases into this split instead of train and val")
    parser.add_argument(
        "--val-fraction", type=float, help=f"fraction of patients in split 'val' (default: {VAL_FRACTION})"
    )
    parser.add_argument("--test-fraction", type=float, help="fraction of patients in split 'test' (default: 0)")
    args = parser.parse_args(argv)
    if args.split and (args.val_fraction is not None or args.test_fraction is not None):
        parser.error("--split excludes --val-fraction and --test-fraction")
    if not args.reports and (args.id_column or args.findings_column or args.impression_column):
        parser.error("--id-column, --findings-column and --impression-column require --reports")
    return args


def find(args: argparse.Namespace, scheme: RegionScheme) -> CaseList:
    """List the cases of the folder with their reports."""
    from ctvlm.datasets.conversion import FolderRules, ReportColumns, add_reports, folder_cases

    names = ("source", "ct", "lesions", "patient_regex")
    rules = FolderRules(
        **{name: getattr(args, name) for name in names},
        allow_no_mask=args.allow_no_mask or args.reports is not None,
        split=args.split or "train",
    )
    listed = folder_cases(args.folder, scheme, rules)
    if args.reports:
        columns = ReportColumns(args.id_column, args.findings_column, args.impression_column)
        listed = add_reports(listed, args.reports, columns, allow_neither=args.allow_no_mask)
    return listed


def main(argv: list[str] | None = None) -> int:
    """Write the manifest; returns the exit code."""
    args = parse_args(argv)
    from rich.console import Console

    from ctvlm.anatomy import RegionScheme
    from ctvlm.datasets.conversion import fill_splits, run_converter, split_patients

    console = Console()
    scheme = RegionScheme.load(args.scheme)
    val = VAL_FRACTION if args.val_fraction is None else args.val_fraction
    test = args.test_fraction or 0.0
    problem = ""
    if args.source not in scheme.sources:
        problem = f"--source: found {args.source!r}; expected one of {', '.join(scheme.sources)}"
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
