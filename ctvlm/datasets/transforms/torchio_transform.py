"""Application of torchio transforms to a case."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torchio as tio

from ctvlm.datasets.transforms.region_kept import record_region_kept
from ctvlm.registry import TRANSFORMS

MAPS = ("region_map", "lesion_map")
FLIPS = ("RandomFlip", "Flip")


@TRANSFORMS.register_module()
class TorchIOTransform:
    """Apply a torchio transform to the volume (HU, float32 output) and to its region and lesion maps.

    Example::

        dict(type="TorchIOTransform", name="RandomBlur", std=(0, 1), p=0.2)

    Args:
        name: class in ``torchio``.
        kwargs: its arguments, with intensities in HU, lengths in mm and axes (x, y, z). Random numbers come from the
            global generator of torch.

    Raises:
        ValueError: unknown transform, or a flip, which would not change text and region ids.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        if name in FLIPS:
            raise ValueError(f"name: found {name!r}, which does not flip text and region ids; use RandomFlipCT")
        transform = getattr(tio, name, None)
        if not (isinstance(transform, type) and issubclass(transform, tio.Transform)):
            raise ValueError(f"name: found {name!r}; expected a transform of torchio {tio.__version__}")
        self.transform = transform(**kwargs)

    def __call__(self, results: dict) -> dict:
        return apply(self.transform, results)


def apply(transform: tio.Transform, results: dict) -> dict:
    """Apply a torchio transform to the arrays of a case and update affine and spacing.

    Adds ``region_kept`` (see ``record_region_kept``) if the region map changed; scaling alone does not reduce it.
    """
    affine = np.asarray(results["affine"], dtype=np.float64)
    images: dict[str, tio.Image] = {"volume": tio.ScalarImage(tensor=_tensor(results["volume"], float), affine=affine)}
    for key in MAPS:
        if results.get(key) is not None:
            images[key] = tio.LabelMap(tensor=_tensor(results[key]), affine=affine)
    moved: Any = transform(tio.Subject(images))
    out = {**results}
    for key in images:
        array = moved[key].data[0].numpy().transpose(2, 1, 0)
        out[key] = np.ascontiguousarray(array, dtype=np.float32 if key == "volume" else np.uint8)
    scale = np.prod([step.scales for step in moved.history if isinstance(step, tio.Affine)])
    growth = scale * abs(np.linalg.det(affine[:3, :3]) / np.linalg.det(moved["volume"].affine[:3, :3]))
    if "region_map" in images and not np.array_equal(out["region_map"], results["region_map"]):
        out = record_region_kept(out, results["region_map"], out["region_map"], growth)
    affine = np.asarray(moved["volume"].affine)
    out["affine"] = affine
    out["spacing"] = tuple(float(s) for s in np.linalg.norm(affine[:3, :3], axis=0)[::-1])
    return out


def _tensor(array: np.ndarray, dtype: type | None = None) -> torch.Tensor:
    """Convert (D, H, W) to (1, W, H, D) as in torchio; a copy, because cached arrays must not change."""
    tensor = torch.tensor(array.transpose(2, 1, 0))[None]
    return tensor.float() if dtype is float else tensor
