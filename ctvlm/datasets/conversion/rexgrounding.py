"""Conversion of ReXGroundingCT: findings with instance masks on CT-RATE volumes."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from ctvlm.datasets.conversion.case_list import CaseList, ConversionError, DropCase
from ctvlm.datasets.conversion.ct_rate import CTRate, prepare_ct_rate
from ctvlm.datasets.conversion.ct_rate_files import ct_rate_name
from ctvlm.datasets.conversion.tables import read_json
from ctvlm.datasets.conversion.text import clean, text_steps
from ctvlm.utils import natural_key
from ctvlm.volume import CTVolume, write_nifti
from ctvlm.volume.nifti_voxels import nifti_voxels

SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}
MASK_FOLDERS = ("segmentations", "masks", "labels", "segs", "")


def rexgrounding_cases(root: Path, data: CTRate, out: Path, masks: Path | None = None) -> CaseList:
    """List every entry of ``dataset.json`` whose volume and mask are on disk, in its own split.

    Args:
        out: folder in which ``prepare_rexgrounding`` writes one lesion map per finding.
        masks: folder of the (F, H, W, D) masks, if not one of ``MASK_FOLDERS``.

    Raises:
        FileNotFoundError: no dataset.json.
        ConversionError: an unexpected format, or no match with a volume on disk.
    """
    root = Path(root).absolute()
    index = root / "dataset.json" if root.is_dir() else root
    if not index.is_file():
        raise FileNotFoundError(f"{index}: file not found; expected dataset.json of ReXGroundingCT")
    raw, notes = read_json(index)
    if not isinstance(raw, dict) or not set(raw) & set(SPLITS):
        keys = list(raw)[:5] if isinstance(raw, dict) else type(raw).__name__
        raise ConversionError(f"{index}: found {keys}; expected an object with the lists train, val and test")
    folders = [Path(masks).absolute()] if masks else [index.parent / folder for folder in MASK_FOLDERS]
    listed = CaseList(notes=[*data.notes, *notes])
    names: list[str] = []
    for split in (s for s in SPLITS if s in raw):
        for entry in raw[split]:
            names.append(str(entry.get("name")))
            try:
                listed.cases.append(_case(entry, SPLITS[split], data, folders, Path(out).absolute()))
            except DropCase as reason:
                listed.dropped.append((names[-1], str(reason)))
    if not any(data.find(name) in data.volumes for name in names):
        raise ConversionError(
            f"{index}: none of the {len(names)} entries matches one of the {len(data.volumes)} volumes under "
            f"{data.root}; entries have names such as {names[:1]}, volumes {next(iter(data.volumes))!r}"
        )
    listed.cases.sort(key=lambda case: natural_key(case["case_id"]))
    return listed


def _case(entry: dict, split: str, data: CTRate, folders: list[Path], out: Path) -> dict:
    volume = data.find(str(entry.get("name")))
    if volume is None or volume not in data.volumes:
        raise DropCase("in dataset.json, but not on disk")
    case = data.case(volume)
    findings = entry.get("findings")
    if not isinstance(findings, dict) or not findings:
        raise DropCase(f"findings: found {json.dumps(findings)[:60]}; expected an object of number: text")
    path = next((p for folder in folders for n in _names(entry, volume) if (p := folder / n).is_file()), None)
    if path is None and split != "test":
        raise DropCase(
            f"found no mask {volume}.nii.gz in {', '.join(str(p) for p in folders[:2])}; set --finding-masks"
        )
    categories = entry.get("categories") or {}
    steps = []
    for channel, key in enumerate(sorted(findings, key=natural_key)):
        text = clean(findings[key])
        regions = {r for step in text_steps(text, data.lexicon) for r in step["regions"]}
        ids = sorted(regions, key=data.lexicon.scheme.id_of)
        category = [str(categories[key])] if categories.get(key) else []
        # prepare_rexgrounding removes the lesions of empty masks.
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
    return list(dict.fromkeys([f"{volume}.nii.gz", name, f"{ct_rate_name(name).volume}.nii.gz"]))


def prepare_rexgrounding(case: dict) -> dict:
    """Write one lesion map per finding from the (F, H, W, D) mask; values are instances, with the geometry of the CT.

    The affine of the mask is meaningless, because its first axis is not spatial. Its other axes are those of the CT
    file, so the shapes must be equal.

    Raises:
        DropCase: the shape or the number of findings differs.
    """
    case = prepare_ct_rate(case)
    if not case["extra"].get("sources"):
        return case
    source = case["extra"]["sources"][0]
    image, ct = _load(source), _load(case["volume"]["path"])
    count = len(case["cot"])
    if tuple(image.shape) != (count, *ct.shape):
        raise DropCase(f"{source}: found a mask of shape {tuple(image.shape)}; expected {(count, *ct.shape)}")
    affine = np.asarray(case["volume"].get("affine", ct.affine), dtype=np.float64)
    # Read all findings at once: they are the fastest axis on disk, so reading one takes a pass over the file.
    values = nifti_voxels(image, source)
    masks, steps = [], []
    for channel, (lesion, step) in enumerate(zip(case["lesion_masks"], case["cot"])):
        array = np.rint(values[channel])
        if not array.any():
            steps.append({**step, "lesion": None})
            continue
        # CTVolume is (z, y, x); the written file has the axes and affine of the CT.
        write_nifti(CTVolume(array.astype(np.uint8 if array.max() < 256 else np.uint16).T, affine), lesion["path"])
        masks.append({**lesion, "name": step["text"][:80]})
        steps.append(step)
    return {**case, "lesion_masks": masks, "cot": steps}


def _load(path: str) -> nib.Nifti1Image:
    return nib.load(path)  # type: ignore[return-value]
