"""CTVolume: a voxel array with its geometry."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np

from ctvlm.utils import BadDataError
from ctvlm.utils.terminal_text import printable
from ctvlm.volume.headers import HeaderGeometry


class CTReadError(BadDataError):
    """A file cannot be read as a valid volume. The message states what was found, what was expected, and what to do."""

    def __init__(self, path: str | Path, found: str = "", expected: str = "", action: str = "") -> None:
        if not (found or expected):  # torch rebuilds an error of a data worker from its text, see CTVLMError
            super().__init__(str(path))
            self.path, self.found, self.expected, self.action = "", str(self.args[0]), "", ""
            return
        self.path, self.found, self.expected, self.action = str(path), found, expected, action
        # One line, whatever the name of the file and its content.
        super().__init__(printable(f"{path}: found {found}; expected {expected}. {action[:1].upper()}{action[1:]}."))


@dataclass(frozen=True)
class CTVolume:
    """HU (or labels) on an orthogonal grid.

    Attributes:
        array: (D, H, W), index order z, y, x; int16 or float32 HU, or unsigned labels.
        affine: 4x4, voxel index (x, y, z, 1) to RAS+ mm.
        shear_degrees: shear (gantry tilt) of the file's grid that was removed by resampling; 0 without resampling.
        header: grid of the source file; None for volumes that were not read from a file.
    """

    array: np.ndarray
    affine: np.ndarray
    shear_degrees: float = 0.0
    header: HeaderGeometry | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or np.shape(self.affine) != (4, 4):
            raise ValueError(
                f"CTVolume: found shapes {self.array.shape} and {np.shape(self.affine)}; expected an array (D, H, W) "
                "and a 4x4 affine."
            )
        object.__setattr__(self, "affine", np.asarray(self.affine, dtype=np.float64))

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.array.shape

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm, (z, y, x)."""
        x, y, z = (float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))
        return z, y, x

    @property
    def orientation(self) -> str:
        """Directions in which the x, y, z indices increase: "RAS" after reading."""
        return "".join(nib.aff2axcodes(self.affine))

    @property
    def voxel_ml(self) -> float:
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def with_array(self, array: np.ndarray) -> CTVolume:
        """Volume with other values on the same grid."""
        if array.shape != self.array.shape:
            raise ValueError(f"array: found shape {array.shape}; expected the grid's shape {self.array.shape}.")
        return CTVolume(array, self.affine, self.shear_degrees, self.header)
