"""ReXGroundingCT: findings with instance masks, on CT-RATE's volumes."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from ctvlm.datasets.conversion.case_list import CaseList, ConversionError, DropCase
from ctvlm.datasets.conversion.ct_rate import CTRate, prepare_ct_rate
from ctvlm.datasets.conversion.ct_rate_files import parse_name
from ctvlm.datasets.conversion.tables import read_json
from ctvlm.datasets.conversion.text import clean, text_steps
from ctvlm.utils import natural_key
from ctvlm.volume import CTVolume, write_nifti

SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}
MASK_FOLDERS = ("segmentations", "masks", "labels", "segs", "")


def rexgrounding_cases(root: Path, data: CTRate, out: Path, masks: Path | None = None) -> CaseList:
    """Every entry of ``dataset.json`` whose volume and mask are on disk, in the split that it names.

    Args:
        out: where ``prepare_rexgrounding`` puts one lesion map per finding.
        masks: folder of the (F, H, W, D) masks, where it is not in one of the usual places.

    Raises:
        ConversionError: no dataset.json, not of the expected form, or no volume of it on disk.
    """
    root = Path(root).absolute()
    index = root / "dataset.json" if root.is_dir() else root
    if not index.is_file():
        raise FileNotFoundError(f"{index}: no such file; expected ReXGroundingCT's dataset.json")
    raw, notes = read_json(index)
    if not isinstance(raw, dict) or not set(raw) & set(SPLITS):
        keys = list(raw)[:5] if isinstance(raw, dict) else type(raw).__name__
        raise ConversionError(f"{index}: found {keys}; expected an object with the lists train, val and test")
    places = [Path(masks).absolute()] if masks else [index.parent / folder for folder in MASK_FOLDERS]
    found, names = CaseList(notes=[*data.notes, *notes]), []
    for split in (s for s in SPLITS if s in raw):
        for entry in raw[split]:
            names.append(str(entry.get("name")))
            try:
                found.cases.append(_case(entry, SPLITS[split], data, places, Path(out).absolute()))
            except DropCase as reason:
                found.dropped.append((names[-1], str(reason)))
    if not any(data.find(name) in data.volumes for name in names):
        raise ConversionError(
            f"none of the {len(names)} entries of {index} names one of the {len(data.volumes)} volumes under "
            f"{data.root}: entries are named like {names[:1]}, volumes like {next(iter(data.volumes))!r}"
        )
    found.cases.sort(key=lambda case: natural_key(case["case_id"]))
    return found


def _case(entry: dict, split: str, data: CTRate, places: list[Path], out: Path) -> dict:
    volume = data.find(str(entry.get("name")))
    if volume not in data.volumes:
        raise DropCase("in dataset.json, but its volume is not on disk")
    case = data.case(volume)
    findings = entry.get("findings")
    if not isinstance(findings, dict) or not findings:
        raise DropCase(f"findings are {json.dumps(findings)[:60]}; expected an object of number: text")
    path = next((p for place in places for n in _names(entry, volume) if (p := place / n).is_file()), None)
    if path is None and split != "test":
        raise DropCase(f"no mask {volume}.nii.gz in {', '.join(str(p) for p in places[:2])}; give --masks")
    categories = entry.get("categories") or {}
    steps = []
    for channel, key in enumerate(sorted(findings, key=natural_key)):
        text = clean(findings[key])
        regions = {r for step in text_steps(text, data.lexicon) for r in step["regions"]}
        ids = sorted(regions, key=data.lexicon.scheme.id_of)
        category = [str(categories[key])] if categories.get(key) else []
        # The lesion of a finding that turns out to have no voxel is taken back when the mask is read.
        lesion = channel + 1 if path else None
        steps.append(dict(step=channel + 1, text=text, entities=category, regions=ids, lesion=lesion))
    numbers = {k: entry[k] for k in ("entity_counts", "pixels", "shape") if k in entry}
    lesions = [dict(path=str(out / volume / f"finding_{s['lesion']}.nii.gz"), id=s["lesion"]) for s in steps if path]
    return {
        **case,
        "split": split,
        "cot": steps,
        "lesion_masks": lesions,
        "source": "ReXGroundingCT",
        "extra": {**case["extra"], **numbers, **({"sources": [str(path), case["volume"]["path"]]} if path else {})},
    }


def _names(entry: dict, volume: str) -> list[str]:
    name = str(entry.get("name"))
    return list(dict.fromkeys([f"{volume}.nii.gz", name, f"{parse_name(name).volume}.nii.gz"]))


def prepare_rexgrounding(case: dict) -> dict:
    """Write one lesion map per finding from the (F, H, W, D) mask: values are instances, geometry is the CT's.

    NIfTI has no place for a fourth axis in front, so the mask's own affine says nothing; its axes are the CT file's,
    which equal shapes must confirm.

    Raises:
        DropCase: shapes or the number of findings do not fit.
    """
    case = prepare_ct_rate(case)
    if not case["extra"].get("sources"):
        return case
    source = case["extra"]["sources"][0]
    image, ct = nib.load(source), nib.load(case["volume"]["path"])
    count = len(case["cot"])
    if tuple(image.shape) != (count, *ct.shape):
        found = f"mask of shape {tuple(image.shape)} for {count} findings in a CT of shape {tuple(ct.shape)}"
        raise DropCase(f"{source}: found a {found}; expected (findings, H, W, D)")
    affine = np.asarray(case["volume"].get("affine", ct.affine), dtype=np.float64)
    # All at once: the findings are the fastest axis on disk, so that one of them alone costs a pass over the file.
    values = np.asanyarray(image.dataobj)
    masks, steps = [], []
    for channel, (lesion, step) in enumerate(zip(case["lesion_masks"], case["cot"])):
        array = np.rint(values[channel])
        if not array.any():
            steps.append({**step, "lesion": None})
            continue
        # CTVolume is (z, y, x); written back, the file has the CT's own axes and affine.
        write_nifti(CTVolume(array.astype(np.uint8 if array.max() < 256 else np.uint16).T, affine), lesion["path"])
        masks.append({**lesion, "name": step["text"][:80]})
        steps.append(step)
    return {**case, "lesion_masks": masks, "cot": steps}
