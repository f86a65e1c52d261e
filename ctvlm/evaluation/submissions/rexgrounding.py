"""ReXGroundingCT's mask files: one NIfTI per CT, shape (F, H, W, D), named as the CT.

F findings in the order of ``dataset.json``; H, W, D are the axes of the CT's own file. Format:
rexrank.ai/explore/submission_guideline_ct.html.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from ctvlm.evaluation.submissions.problem import Problem
from ctvlm.utils import atomic_write
from ctvlm.volume import CTVolume
from ctvlm.volume.grids import sample_grid


def write_rex_masks(path: str | Path, masks: Sequence[CTVolume], reference: str | Path) -> None:
    """Write the masks of a CT's findings on the grid of the CT's own file.

    Args:
        masks: one per finding, in order; any grid: they are brought to the CT's in physical space (nearest voxel).
            Voxels other than 0 are the finding; instance numbers are kept.
        reference: the CT file, for its shape and affine.

    Raises:
        ValueError: without masks, or for labels that do not fit 8 bits.
    """
    if not masks:
        raise ValueError(f"{path}: no masks; a CT without findings has no file.")
    image = nib.load(reference)
    shape, affine = image.shape[:3], image.affine
    stacked = np.zeros((len(masks), *shape), dtype=np.uint8)
    for number, mask in enumerate(masks):
        if mask.array.min() < 0 or mask.array.max() > 255:
            raise ValueError(
                f"{path}: mask {number} has labels {mask.array.min()} to {mask.array.max()}; expected 0-255."
            )
        to_mask = np.linalg.inv(mask.affine) @ affine
        stacked[number] = sample_grid(mask.array.transpose(2, 1, 0).astype(np.uint8), to_mask, shape, "nearest", 0)
    with atomic_write(path) as part:
        nib.save(nib.Nifti1Image(stacked, affine), part)


def check_rex(folder: str | Path, dataset: str | Path, split: str = "test") -> list[Problem]:
    """Everything wrong with a folder of masks.

    Args:
        dataset: the data set's ``dataset.json``: split to cases with ``name``, ``findings``, ``shape`` [H, W, D].
    """
    listed = json.loads(Path(dataset).read_text(encoding="utf-8"))
    if split not in listed:
        raise ValueError(f"{dataset} has no split {split!r}: found {sorted(listed)}.")
    folder, problems = Path(folder), []
    names = [case["name"] for case in listed[split]]
    for case in listed[split]:
        path = folder / case["name"]
        if not path.is_file():
            problems.append(Problem(case["name"], "missing: every CT needs a file of its own name"))
            continue
        try:
            image = nib.load(path)
            values = np.asanyarray(image.dataobj)
        except (nib.filebasedimages.ImageFileError, EOFError, OSError, ValueError) as error:
            problems.append(Problem(case["name"], f"cannot be read ({error}): write it again"))
            continue
        expected = (len(case["findings"]), *case["shape"]) if "shape" in case else (len(case["findings"]),)
        if values.ndim != 4 or values.shape[: len(expected)] != tuple(expected):
            problems.append(
                Problem(
                    case["name"], f"shape {values.shape}: expected (F, H, W, D) = {tuple(expected)}, findings first"
                )
            )
        elif not np.isfinite(values).all() or (values < 0).any() or (values != np.round(values)).any():
            problems.append(
                Problem(case["name"], "values are not whole numbers from 0: expected masks, no probabilities")
            )
        else:
            empty = [str(i) for i in range(len(values)) if not values[i].any()]
            if empty:
                problems.append(Problem(case["name"], f"nothing marked for finding {', '.join(empty)}", fatal=False))
    present = {path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")}
    problems += [Problem(name, "not a CT of this split: remove it") for name in sorted(present - set(names))]
    return problems
