"""Convert chest CTs with one folder per patient to a case manifest.

Expected files::

    DATA/P001/ct.nii.gz
    DATA/P001/labels.nii.gz     ids of "chest_labels_16" in region_scheme.json
    DATA/P001/report.json       {"phase": "venous", "impression": "...",
                                 "findings": [{"organ": "lungs", "text": "Both lungs are clear."}, ...]}

Each sentence of a finding becomes a reasoning step about the regions of its organ. Every case is opened; a case with
an unknown label id or organ is dropped, and its reason is written to OUT.dropped.tsv.

    python projects/chest_ct_folders/folders_to_manifest.py DATA DATA/manifest.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from ctvlm.anatomy import MentionLexicon, RegionScheme, UnknownLabelError
from ctvlm.datasets.conversion import (
    CaseList,
    ConversionError,
    DropCase,
    fill_splits,
    run_converter,
    text_steps,
)
from ctvlm.engine.cli.converter_arguments import add_common_arguments

SCHEME = Path(__file__).with_name("region_scheme.json")
LABEL_SOURCE = "chest_labels_16"


def find_cases(root: Path, scheme: RegionScheme) -> CaseList:
    """Cases of all folders below ``root`` that contain a ``ct.nii.gz``.

    Raises:
        ConversionError: there is no such folder.
    """
    listed = CaseList()
    lexicon = MentionLexicon(scheme)
    for ct in sorted(root.absolute().glob("*/ct.nii.gz")):
        try:
            listed.cases.append(read_case(ct.parent, lexicon))
        except DropCase as reason:
            listed.dropped.append((ct.parent.name, str(reason)))
    if not listed.cases and not listed.dropped:
        raise ConversionError(f"{root}: found no PATIENT/ct.nii.gz; expected one folder per patient")
    return listed


def read_case(folder: Path, lexicon: MentionLexicon) -> dict[str, Any]:
    """Manifest line of one folder.

    Raises:
        DropCase: the report cannot be read, or it names an unknown organ.
    """
    path = folder / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        findings = [(finding["organ"], finding["text"]) for finding in report["findings"]]
        impression, phase = report["impression"], report.get("phase")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DropCase(f"{path}: {error!r}; expected keys impression and findings (organ, text)") from None
    steps: list[dict] = []
    for organ, text in findings:
        try:
            regions = lexicon.scheme.ids_of_class(organ)
        except UnknownLabelError:
            raise DropCase(f"{path}: organ {organ!r} is not in {lexicon.scheme.reference}; add it there") from None
        steps += text_steps(text, lexicon, within=regions or None)
    return dict(
        case_id=folder.name,
        patient_id=folder.name,
        split="train",
        volume=str(folder / "ct.nii.gz"),
        region_map=dict(path=str(folder / "labels.nii.gz"), source=LABEL_SOURCE),
        report=dict(findings=" ".join(text for _, text in findings), impression=impression),
        cot=[{**step, "step": number} for number, step in enumerate(steps, start=1)],
        source="chest CT folders",
        extra=dict(phase=phase),
    )


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="DATA", help="folder with one folder per patient")
    add_common_arguments(parser)
    parser.set_defaults(scheme=str(SCHEME))
    parser.add_argument("--val-fraction", type=float, default=0.2, help="share of patients in split 'val'")
    parser.add_argument("--test-fraction", type=float, default=0.0, help="share of patients in split 'test'")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write the manifest and return the exit code."""
    args = parse_args(argv)
    scheme = RegionScheme.load(args.scheme)
    assign = partial(fill_splits, val=args.val_fraction, test=args.test_fraction)
    return run_converter(partial(find_cases, args.root, scheme), args, assign=assign)


if __name__ == "__main__":
    sys.exit(main())
