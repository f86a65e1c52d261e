"""Conversion of OmniAbnorm-CT with chain-of-thought: one record per abnormality, with steps and a mask."""

from __future__ import annotations

import re
from pathlib import Path

from ctvlm.anatomy import DEFAULT_SCHEME, MentionLexicon, UnknownLabelError, mention_lexicon
from ctvlm.datasets.conversion.case_list import CaseList, ConversionError
from ctvlm.datasets.conversion.splits import three_way
from ctvlm.datasets.conversion.tables import read_records
from ctvlm.datasets.conversion.text import clean, number_steps, text_steps
from ctvlm.utils import natural_key


def region_ids(names: object, lexicon: MentionLexicon) -> set[int]:
    """Return the ids of the regions in ``names`` (text or list): region or class names, otherwise mentions."""
    ids: set[int] = set()
    for name in [names] if isinstance(names, str) else names if isinstance(names, list) else []:
        try:
            ids.update(lexicon.scheme.ids_of_class(str(name)))
        except UnknownLabelError:
            ids.update(lexicon.regions_in(str(name).replace("_", " ")))
    return ids


def omniabnorm_cot_cases(
    path: Path,
    root: Path | None = None,
    *,
    scheme: str = DEFAULT_SCHEME,
    patient_regex: str | None = None,
    val: float = 0.05,
    test: float = 0.1,
) -> CaseList:
    """List the cases of records ``{case_id, image_path, mask_path, region, category, cot_reasoning}`` on CT volumes.

    Records of one case (several abnormalities) are joined: their steps are concatenated, their masks get ids 1, 2, ...
    A step with a ``mask_region`` refers to the lesion of its record.

    Args:
        root: base of the paths; default: the folder of the file.
        patient_regex: see ``patient_of``.
        val: fraction of the patients for validation, if no split is given.
        test: fraction of the patients for testing, if no split is given.

    Raises:
        ConversionError: a required key is missing.
    """
    path = Path(path).absolute()
    root = Path(root).absolute() if root else path.parent
    lexicon = mention_lexicon(scheme)
    by_case: dict[str, list[dict]] = {}
    all_records, notes = read_records(path)
    for number, record in enumerate(all_records, start=1):
        if missing := {"case_id", "image_path", "cot_reasoning"} - set(record):
            raise ConversionError(
                f"{path}, record {number}: found the keys {sorted(record)}; missing: {', '.join(sorted(missing))}"
            )
        by_case.setdefault(str(record["case_id"]), []).append(record)
    listed = CaseList(notes=notes)
    for case_id in sorted(by_case, key=natural_key):
        records = by_case[case_id]
        images = {record["image_path"] for record in records}
        if len(images) > 1:
            listed.dropped.append((case_id, f"{len(images)} images under one case_id: {', '.join(sorted(images)[:2])}"))
            continue
        masks = list(dict.fromkeys(r["mask_path"] for r in records if r.get("mask_path")))
        steps = [step for r in records for step in _cot_steps(r, masks, lexicon)]
        patient = patient_of(case_id, patient_regex)
        names = {m: next(r.get("category") for r in records if r.get("mask_path") == m) for m in masks}
        listed.cases.append(
            dict(
                case_id=case_id,
                patient_id=patient,
                split=split_of(records[0], path, patient, val, test),
                volume=dict(path=str(root / records[0]["image_path"])),
                lesion_masks=[
                    dict(path=str(root / m), id=i, name=", ".join(as_list(names[m])) or None)
                    for i, m in enumerate(masks, start=1)
                ],
                report=dict(findings=" ".join(s["text"] for s in steps)) if steps else {},
                cot=number_steps(steps),
                source="OmniAbnorm CoT",
                extra=dict(category=[c for r in records for c in as_list(r.get("category"))]),
            )
        )
    return listed


def _cot_steps(record: dict, masks: list[str], lexicon: MentionLexicon) -> list[dict]:
    steps = record["cot_reasoning"]
    if isinstance(steps, str):
        return text_steps(steps, lexicon)
    out: list[dict] = []
    for step in steps:
        text = clean(str(step.get("text") or ""))
        if not text:
            continue
        entities = [str(e) for e in as_list(step.get("anatomical_entities"))]
        # Regions in order of preference: of the text, the entities, the mask, the record.
        candidates = [set(lexicon.regions_in(text))]
        candidates += [region_ids(n, lexicon) for n in (entities, step.get("mask_region"), record.get("region"))]
        ids = sorted(next(filter(None, candidates), ()))
        has_mask = step.get("mask_region") not in (None, "", [], "none", "None") and record.get("mask_path")
        regions = [lexicon.scheme.name_of(i) for i in ids]
        lesion = masks.index(record["mask_path"]) + 1 if has_mask else None
        out.append(dict(step=len(out) + 1, text=text, entities=entities, regions=regions, lesion=lesion))
    return out


def as_list(value: object) -> list[str]:
    """Convert a value, a list or None to a list of texts."""
    return [] if value in (None, "") else [str(v) for v in value] if isinstance(value, list) else [str(value)]


def split_of(record: dict, path: Path, patient: str, val: float, test: float) -> str:
    """Return the split of the record or of the file name, otherwise one by patient."""
    given = str(record.get("split") or "").lower()
    stem = set(re.split(r"[^a-z]+", path.stem.lower()))
    for split, words in (("train", {"train"}), ("val", {"val", "valid", "validation"}), ("test", {"test"})):
        if given in words or (not given and stem & words):
            return split
    return three_way(patient, val, test)


def patient_of(case_id: str, regex: str | None) -> str:
    """Return group 1 of ``regex``; by default the text before the first "_" or "-", which keeps the images of one
    patient together."""
    match = re.search(regex or r"^([^_\-]+)", case_id)
    return match.group(1 if match.re.groups else 0) if match else case_id
