"""Any transform of torchio on a case: the volume as an image, its maps as label maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torchio as tio

from ctvlm.datasets.transforms.kept import with_kept
from ctvlm.registry import TRANSFORMS

MAPS = ("region_map", "lesion_map")
MIRRORS = ("RandomFlip", "Flip")


@TRANSFORMS.register_module()
class TorchIOTransform:
    """Apply a torchio transform by its name; HU in, HU (float32) out, region and lesion maps moved with it.

    Example::

        dict(type="TorchIOTransform", name="RandomBlur", std=(0, 1), p=0.2)

    Args:
        name: class in ``torchio``; intensities are HU, lengths mm, axes (x, y, z) in its arguments.
        kwargs: its arguments. Randomness comes from torch's global generator.

    Raises:
        ValueError: torchio has no such transform, or it mirrors: left and right would stay in text and region ids.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        if name in MIRRORS:
            raise ValueError(f"torchio's {name} leaves left and right in text and region ids: use RandomFlipCT")
        transform = getattr(tio, name, None)
        if not (isinstance(transform, type) and issubclass(transform, tio.Transform)):
            raise ValueError(f"torchio {tio.__version__} has no transform {name!r}; see its documentation for names")
        self.transform = transform(**kwargs)

    def __call__(self, results: dict) -> dict:
        return apply(self.transform, results)


def apply(transform: tio.Transform, results: dict) -> dict:
    """Run a torchio transform on the arrays of a case; geometry follows.

    Records ``region_kept`` (see ``with_kept``) where voxels of the region map changed; changes of size do not count.
    """
    affine = np.asarray(results["affine"], dtype=np.float64)
    images: dict[str, tio.Image] = {"volume": tio.ScalarImage(tensor=_tensor(results["volume"], float), affine=affine)}
    for key in MAPS:
        if results.get(key) is not None:
            images[key] = tio.LabelMap(tensor=_tensor(results[key]), affine=affine)
    moved = transform(tio.Subject(images))
    out = {**results}
    for key in images:
        array = moved[key].data[0].numpy().transpose(2, 1, 0)
        out[key] = np.ascontiguousarray(array, dtype=np.float32 if key == "volume" else np.uint8)
    scale = np.prod([step.scales for step in moved.history if isinstance(step, tio.Affine)])
    growth = scale * abs(np.linalg.det(affine[:3, :3]) / np.linalg.det(moved["volume"].affine[:3, :3]))
    if "region_map" in images and not np.array_equal(out["region_map"], results["region_map"]):
        out = with_kept(out, results["region_map"], out["region_map"], growth)
    affine = np.asarray(moved["volume"].affine)
    out["affine"] = affine
    out["spacing"] = tuple(float(s) for s in np.linalg.norm(affine[:3, :3], axis=0)[::-1])
    return out


def _tensor(array: np.ndarray, dtype: type | None = None) -> torch.Tensor:
    """(D, H, W) to torchio's (1, W, H, D); a copy, so that cached arrays stay as they are."""
    tensor = torch.tensor(array.transpose(2, 1, 0))[None]
    return tensor.float() if dtype is float else tensor
