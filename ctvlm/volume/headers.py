"""Geometry in image headers: missing parts, and conflicts between sform and qform."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np

from ctvlm.volume.grids import corners, max_displacement

# Keys of each part of the geometry, the most common key first.
META_KEYS = {
    "spacing": ("ElementSpacing", "ElementSize"),
    "orientation": ("TransformMatrix", "Rotation", "Orientation"),
    "position": ("Offset", "Position", "Origin"),
}
NRRD_KEYS = {
    "spacing": ("space directions", "spacings"),
    "orientation": ("space directions",),
    "position": ("space origin",),
}
# NRRD spaces with anatomical directions; "scanner-xyz" and "space dimension" have none.
NRRD_SPACES = ("right-anterior-superior", "left-anterior-superior", "left-posterior-superior", "ras", "las", "lps")
# In voxels: below this the sform and qform of a header are equal, because headers contain rounded numbers.
MAX_DISPLACEMENT = 0.5


@dataclass(frozen=True, eq=False)
class HeaderGeometry:
    """Geometry of a file's voxels in the file's axis order.

    Attributes:
        shape: voxels along x, y, z.
        affine: 4x4 to RAS+ mm; the sform for NIfTI headers with both forms.
        alternative: the qform of a NIfTI header if it conflicts with the sform; None otherwise.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    alternative: np.ndarray | None = None

    @property
    def affines(self) -> list[np.ndarray]:
        """``affine``, followed by ``alternative`` if it exists."""
        return [self.affine] if self.alternative is None else [self.affine, self.alternative]


def load_nifti(path: Path) -> nib.Nifti1Pair:
    """Open a NIfTI or Analyze file with nibabel, typed as NIfTI. Analyze headers have no ``sform_code``."""
    return cast(nib.Nifti1Pair, nib.load(path))


def missing_geometry(path: Path) -> dict[str, str]:
    """Parts of the geometry (spacing, orientation, position) that are missing in a header, with the missing key.

    Applies to MetaImage, NRRD and NIfTI headers, where parsers use 1 mm, LPS and 0 instead; {} for other file types.
    """
    name = path.name.lower()
    if name.endswith((".mha", ".mhd")):
        found = _text_header(path, "=", "ElementDataFile")
        return {part: keys[0] for part, keys in META_KEYS.items() if not set(keys) & set(found)}
    if name.endswith((".nrrd", ".nhdr")):
        found = _text_header(path, ":", "")
        missing = {part: keys[0] for part, keys in NRRD_KEYS.items() if not set(keys) & set(found)}
        if found.get("space", "").lower() not in NRRD_SPACES:
            missing |= dict(orientation="space", position="space")
        return missing
    if name.endswith((".nii", ".nii.gz", ".hdr", ".img")):
        return _missing_in_nifti(path)
    return {}


def _text_header(path: Path, separator: str, last: str) -> dict[str, str]:
    """Keys and values of a text header; ``last`` is the key of its last line ("" for an empty line)."""
    fields: dict[str, str] = {}
    with open(path, "rb") as file:
        while line := file.readline(10_000):
            key, _, value = line.decode("latin-1").strip().partition(separator)
            fields[key.strip()] = value.strip(" =")  # NRRD also has "key:=value"
            if key.strip() == last:
                break
    return fields


def _missing_in_nifti(path: Path) -> dict[str, str]:
    """The qform uses the voxel sizes in pixdim, where nibabel reads 0 as 1 mm."""
    image = load_nifti(path)
    if "sform_code" not in image.header or int(image.header["sform_code"]) > 0:
        return {}
    filename = image.file_map["header" if "header" in image.file_map else "image"].filename
    with nib.openers.ImageOpener(str(filename)) as file:
        raw = type(image.header).from_fileobj(file, check=False)
    return {} if (raw["pixdim"][1:4] != 0).all() else dict(spacing="pixdim")


def conflicting_qform(path: Path, shape: tuple[int, int, int]) -> np.ndarray | None:
    """The qform of a NIfTI header with both forms if it conflicts with the sform; None otherwise.

    The forms conflict if they place any voxel more than ``MAX_DISPLACEMENT`` voxels apart.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz", ".hdr", ".img")):
        return None
    header = load_nifti(path).header
    if "sform_code" not in header or not (int(header["sform_code"]) > 0 and int(header["qform_code"]) > 0):
        return None
    try:
        sform, qform = header.get_sform(), header.get_qform()
    except (ValueError, nib.spatialimages.HeaderDataError):
        return None  # invalid quaternion
    if not np.isfinite(sform).all() or abs(np.linalg.det(sform[:3, :3])) < 1e-9:
        return None  # rejected by the checks of the reader
    return qform if max_displacement(np.linalg.inv(sform) @ qform, shape) > MAX_DISPLACEMENT else None


def describe(affine: np.ndarray) -> str:
    """Axes, first voxel and voxel sizes of an affine, for messages."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    origin, size = (", ".join(f"{x:.2f}" for x in numbers) for numbers in (affine[:3, 3], sizes))
    return f"axes {''.join(nib.aff2axcodes(affine))}, first voxel at ({origin}) mm, voxels of ({size}) mm"


def describe_conflict(header: HeaderGeometry) -> str:
    """Message about the sform and qform of a header with conflicting forms."""
    sform, qform = header.affines
    distance = np.linalg.norm(((qform - sform) @ corners(header.shape))[:3], axis=0).max()
    return (
        f"sform and qform differ by up to {distance:.1f} mm. sform: {describe(sform)}; qform: {describe(qform)}. The "
        "sform is used. Make them equal or declare affine=. A mask that fits only the qform is rejected."
    )


def fits_only_alternative(mask: HeaderGeometry, ct: HeaderGeometry) -> bool:
    """Whether a mask fits its CT only by an affine that is not used, in one of the two headers.

    Criteria from strict to loose, until used and unused affines give different results: same grid, same lattice of
    voxels (a crop), field of view inside that of the CT.
    """
    if mask.alternative is None and ct.alternative is None:
        return False
    pairs = [(m, c) for m in mask.affines for c in ct.affines]
    for fits in (_same_grid, _same_lattice, _inside):
        used, *unused = (fits(m, mask.shape, c, ct.shape) for m, c in pairs)
        if used != any(unused):
            return not used
    return False


def _same_grid(mask: np.ndarray, mask_shape: tuple, ct: np.ndarray, ct_shape: tuple) -> bool:
    return mask_shape == ct_shape and max_displacement(np.linalg.inv(ct) @ mask, ct_shape) <= MAX_DISPLACEMENT


def _same_lattice(mask: np.ndarray, mask_shape: tuple, ct: np.ndarray, ct_shape: tuple) -> bool:
    """Whether the voxel centres coincide; axes may be permuted and flipped."""
    to_ct = np.linalg.inv(ct) @ mask
    points = to_ct @ corners(mask_shape)
    rotation = np.rint(to_ct[:3, :3])
    return bool(np.allclose(rotation @ rotation.T, np.eye(3)) and np.abs(points - np.rint(points)).max() < 0.1)


def _inside(mask: np.ndarray, mask_shape: tuple, ct: np.ndarray, ct_shape: tuple) -> bool:
    points = (np.linalg.inv(ct) @ mask @ corners(mask_shape))[:3]
    last = np.array(ct_shape)[:, None] - 1
    return bool((points >= -1).all() and (points <= last + 1).all())
