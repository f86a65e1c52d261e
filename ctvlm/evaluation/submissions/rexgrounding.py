"""Mask files of ReXGroundingCT: one NIfTI file per CT with the CT's file name and shape (F, H, W, D).

F findings in the order of ``dataset.json``; H, W, D are the axes of the CT file. Format:
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
from ctvlm.volume.nifti_voxels import nifti_voxels


def write_rex_masks(path: str | Path, masks: Sequence[CTVolume], reference: str | Path) -> None:
    """Write the masks of the findings of a CT on the grid of the CT file.

    Args:
        masks: one per finding, in order, on any grid; they are resampled in physical space (nearest neighbour). Voxels
            other than 0 belong to the finding; instance labels are preserved.
        reference: the CT file, for its shape and affine.

    Raises:
        ValueError: there are no masks, or a label does not fit 8 bits.
    """
    if not masks:
        raise ValueError(f"{path}: found no masks; expected one per finding. A CT without findings has no file.")
    image = _load(reference)
    shape, affine = image.shape[:3], image.affine
    stacked = np.zeros((len(masks), *shape), dtype=np.uint8)
    for number, mask in enumerate(masks):
        if mask.array.min() < 0 or mask.array.max() > 255:
            raise ValueError(
                f"{path}: mask {number} has labels {mask.array.min()} to {mask.array.max()}; expected 0 to 255."
            )
        to_mask = np.linalg.inv(mask.affine) @ affine
        stacked[number] = sample_grid(mask.array.transpose(2, 1, 0).astype(np.uint8), to_mask, shape, "nearest", 0)
    with atomic_write(path) as part:
        nib.save(nib.Nifti1Image(stacked, affine), part)


def check_rex(folder: str | Path, dataset: str | Path, split: str = "test") -> list[Problem]:
    """Find all problems of a folder of masks.

    Args:
        dataset: the data set's ``dataset.json``: split to cases with ``name``, ``findings``, ``shape`` [H, W, D].

    Raises:
        ValueError: ``dataset.json`` does not have the split.
    """
    cases_of = json.loads(Path(dataset).read_text(encoding="utf-8"))
    if split not in cases_of:
        raise ValueError(f"{dataset}: found the splits {sorted(cases_of)}; expected {split!r} among them.")
    folder, problems = Path(folder), []
    names = [case["name"] for case in cases_of[split]]
    for case in cases_of[split]:
        path = folder / case["name"]
        if not path.is_file():
            problems.append(Problem(case["name"], "missing; expected a file with the name of the CT"))
            continue
        try:
            values = nifti_voxels(_load(path), path)
        except (nib.filebasedimages.ImageFileError, EOFError, OSError, ValueError) as error:
            problems.append(Problem(case["name"], f"cannot be read ({error}). Write it again"))
            continue
        expected = (len(case["findings"]), *case["shape"]) if "shape" in case else (len(case["findings"]),)
        if values.ndim != 4 or values.shape[: len(expected)] != tuple(expected):
            problems.append(Problem(case["name"], f"shape {values.shape}; expected (F, H, W, D) = {tuple(expected)}"))
        elif not np.isfinite(values).all() or (values < 0).any() or (values != np.round(values)).any():
            problems.append(
                Problem(case["name"], "found values other than integers >= 0; expected masks, not probabilities")
            )
        else:
            empty = [str(i) for i in range(len(values)) if not values[i].any()]
            if empty:
                problems.append(Problem(case["name"], f"empty mask of finding {', '.join(empty)}", fatal=False))
    present = {path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")}
    problems += [Problem(name, "not a CT of this split. Remove the file") for name in sorted(present - set(names))]
    return problems


def _load(path: str | Path) -> nib.Nifti1Image:
    image = nib.load(path)
    if not isinstance(image, nib.Nifti1Image):
        raise ValueError(f"{path}: found {type(image).__name__}; expected a NIfTI file.")
    return image
