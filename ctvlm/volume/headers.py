"""What a header says about geometry, where parsers fill in defaults or choose between two answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from ctvlm.volume.grids import corners, max_displacement

# Keys that state a part of the geometry; the first of each tuple is the usual one.
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
# NRRD's named spaces that say where left, front and head are; "scanner-xyz" and "space dimension" do not.
NRRD_SPACES = ("right-anterior-superior", "left-anterior-superior", "left-posterior-superior", "ras", "las", "lps")
# In voxels: below this two forms of one header mean the same, headers hold rounded numbers.
MAX_DISPLACEMENT = 0.5


@dataclass(frozen=True, eq=False)
class HeaderGeometry:
    """Where a file's header places its voxels, in the file's own axis order.

    Attributes:
        shape: voxels along x, y, z.
        affine: 4x4 to RAS+ mm, the reading that is used.
        alternative: the second reading of a NIfTI header whose sform and qform disagree; None otherwise.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    alternative: np.ndarray | None = None

    @property
    def affines(self) -> list[np.ndarray]:
        """``affine``, and ``other`` where there is one."""
        return [self.affine] if self.alternative is None else [self.affine, self.alternative]


def missing_geometry(path: Path) -> dict[str, str]:
    """Parts of the geometry (spacing, orientation, position) that a header does not state, and the key it lacks.

    MetaImage, NRRD and NIfTI headers; parsers read what is missing as 1 mm, LPS and 0. Other file types: {}.
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
    """Keys and values of the text lines before the voxels; ``last`` is the key, or empty line, that ends them."""
    fields: dict[str, str] = {}
    with open(path, "rb") as file:
        while line := file.readline(10_000):
            key, _, value = line.decode("latin-1").strip().partition(separator)
            fields[key.strip()] = value.strip(" =")  # NRRD's own key/value pairs are written "key:=value"
            if key.strip() == last:
                break
    return fields


def _missing_in_nifti(path: Path) -> dict[str, str]:
    """A qform takes its voxel sizes from pixdim, and nibabel reads 0 there as 1 mm."""
    image = nib.load(path)
    if "sform_code" not in image.header or int(image.header["sform_code"]) > 0:
        return {}
    with nib.openers.ImageOpener(image.file_map["header" if "header" in image.file_map else "image"].filename) as file:
        raw = type(image.header).from_fileobj(file, check=False)
    return {} if (raw["pixdim"][1:4] != 0).all() else dict(spacing="pixdim")


def conflicting_qform(path: Path, shape: tuple[int, int, int]) -> np.ndarray | None:
    """The qform of a NIfTI header that sets both forms, where it disagrees with the sform; None otherwise.

    They disagree where a voxel of one lies more than ``MAX_DISPLACEMENT`` voxels from where the other puts it.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz", ".hdr", ".img")):
        return None
    header = nib.load(path).header
    if "sform_code" not in header or not (int(header["sform_code"]) > 0 and int(header["qform_code"]) > 0):
        return None
    try:
        sform, qform = header.get_sform(), header.get_qform()
    except (ValueError, nib.spatialimages.HeaderDataError):
        return None  # a quaternion that is none says nothing
    if not np.isfinite(sform).all() or abs(np.linalg.det(sform[:3, :3])) < 1e-9:
        return None  # refused by the reader's own checks
    return qform if max_displacement(np.linalg.inv(sform) @ qform, shape) > MAX_DISPLACEMENT else None


def describe(affine: np.ndarray) -> str:
    """A reading in words: axes, first voxel, voxel sizes."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    place, size = (", ".join(f"{x:.2f}" for x in numbers) for numbers in (affine[:3, 3], sizes))
    return f"axes {''.join(nib.aff2axcodes(affine))}, first voxel at ({place}) mm, voxels of ({size}) mm"


def describe_conflict(header: HeaderGeometry) -> str:
    """What the two forms of a header say, and which one is used."""
    points = corners(header.shape)
    apart = np.linalg.norm(((header.alternative - header.affine) @ points)[:3], axis=0).max()
    return (
        f"sform and qform disagree by up to {apart:.1f} mm: the sform says {describe(header.affine)}; the qform says "
        f"{describe(header.alternative)}. The sform is used. Make the two equal or declare affine=. A mask that "
        "fits only the qform is rejected."
    )


def fits_only_alternative(mask: HeaderGeometry, ct: HeaderGeometry) -> bool:
    """Whether a mask lies on its CT only by a reading of one of the two headers that is not used.

    Tried from strict to loose, until used and unused affines differ: the same grid, the same lattice of voxels
    (a crop), a field of view inside the CT's.
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
    """Voxel centres on voxel centres; axes may be swapped and flipped."""
    to_ct = np.linalg.inv(ct) @ mask
    points = to_ct @ corners(mask_shape)
    turned = np.rint(to_ct[:3, :3])
    return bool(np.allclose(turned @ turned.T, np.eye(3)) and np.abs(points - np.rint(points)).max() < 0.1)


def _inside(mask: np.ndarray, mask_shape: tuple, ct: np.ndarray, ct_shape: tuple) -> bool:
    points = (np.linalg.inv(ct) @ mask @ corners(mask_shape))[:3]
    last = np.array(ct_shape)[:, None] - 1
    return bool((points >= -1).all() and (points <= last + 1).all())
