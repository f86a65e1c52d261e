"""File types to (array in file axes, affine to RAS+ mm). Libraries do the parsing; nothing is checked as HU here."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

from ctvlm.volume.ct_volume import CTReadError
from ctvlm.volume.dicom import read_dicom
from ctvlm.volume.dicom_headers import is_dicom
from ctvlm.volume.orient import affine_from_axes
from ctvlm.volume.store import SUFFIX, StoredArray

# Array in file order, affine of those axes (None: the file does not say).
RawImage = tuple[np.ndarray, "np.ndarray | None"]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
RAD_CHESTCT_NAME = re.compile(r"(trn|val|tst)\d+")
# Keys under which .npz volumes are met in the field, besides our own "volume".
NPZ_KEYS = ("volume", "ct", "arr_0", "arr", "array", "image", "mask")


class AssumedGeometryWarning(UserWarning):
    """A file without geometry that is taken for one of a known data set."""


def read_nifti(path: Path, key: str | None = None) -> RawImage:
    """NIfTI through nibabel: sform before qform; no affine where both codes are 0, or in an Analyze 7.5 pair."""
    image = nib.load(path)
    if image.get_data_dtype().kind not in "iuf":
        raise CTReadError(
            path, f"dtype {image.get_data_dtype()}", "one number per voxel", "this is a picture, not a CT"
        )
    array = np.asanyarray(image.dataobj)
    header = image.header
    if "sform_code" not in header:
        return array, None
    placed = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    return array, image.affine if placed else None


def read_sitk(path: Path, key: str | None = None) -> RawImage:
    """MetaImage and NRRD through SimpleITK."""
    sitk = _simpleitk(path)
    # Named, because SimpleITK finds the parser of .mha and .mhd by lower-case suffixes only.
    parser = "NrrdImageIO" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImageIO"
    image = sitk.ReadImage(str(path), imageIO=parser)
    return _from_sitk(image, path)


def read_npz(path: Path, key: str | None = None) -> RawImage:
    """NumPy archives; ``key`` is the array's name."""
    with np.load(path, allow_pickle=False) as data:
        names = list(data.keys())
        found = [key] if key else [k for k in NPZ_KEYS if k in names][:1]
        if not found or found[0] not in names:
            raise CTReadError(path, f"arrays {names}", f"one of {', '.join(NPZ_KEYS)}", "give key= (the array's name)")
        array = data[found[0]]
        if "affine" in names:
            # Our own layout: array (z, y, x) beside the affine of (x, y, z).
            return array.T, np.asarray(data["affine"], dtype=np.float64)
    if found[0] == "ct":
        if not RAD_CHESTCT_NAME.fullmatch(path.stem):
            warnings.warn(
                f"{path}: found no geometry, and an array named 'ct' as in Rad-ChestCT: taken as 0.8 mm voxels that "
                "grow to I, P, L; if it is another data set, declare affine=, or spacing= and axes=",
                AssumedGeometryWarning,
                stacklevel=2,
            )
        # Rad-ChestCT: (z, y, x) that grow to inferior, posterior and left, 0.8 mm isotropic.
        return array, affine_from_axes("IPL", (0.8, 0.8, 0.8))
    return array, None


def read_store(path: Path, key: str | None = None) -> RawImage:
    """Stored volumes of tools/preprocess.py; ``key`` picks one label of a label map."""
    stored = StoredArray(path).read()
    array = stored.array if key is None else (stored.array == int(key)).astype(np.uint8)
    return array.T, stored.affine


def _from_sitk(image, path: Path) -> RawImage:
    if image.GetNumberOfComponentsPerPixel() != 1:
        found = f"{image.GetNumberOfComponentsPerPixel()} numbers per voxel"
        raise CTReadError(path, found, "one number per voxel", "this is a picture or a field, not a CT")
    if image.GetDimension() != 3:
        raise CTReadError(path, f"{image.GetDimension()} dimensions", "3", "take one volume of it")
    import SimpleITK as sitk

    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), LPS_TO_RAS @ affine


def _simpleitk(path: Path):
    try:
        import SimpleITK
    except ImportError:
        raise ImportError(f"{path}: reading this file type needs SimpleITK: pip install SimpleITK") from None
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK


READERS: dict[str, Callable[[Path, str | None], RawImage]] = {
    ".nii": read_nifti,
    ".nii.gz": read_nifti,
    ".hdr": read_nifti,
    ".img": read_nifti,
    ".mha": read_sitk,
    ".mhd": read_sitk,
    ".nrrd": read_sitk,
    ".nhdr": read_sitk,
    ".npz": read_npz,
    SUFFIX: read_store,
}


def read_raw(path: Path, key: str | None = None, modality: str | None = None) -> RawImage:
    """Read any known file type; whatever a parser throws becomes a CTReadError that names the file.

    Suffixes are read in any case. ``modality`` is for DICOM files without a Modality tag.

    Raises:
        CTReadError, FileNotFoundError.
        ImportError: an optional reader is not installed.
        ValueError: ``modality`` is given for another file type.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; check the path (manifest paths are relative to the manifest)")
    name = path.name.lower()
    reader = next((r for end, r in READERS.items() if name.endswith(end)), None) if path.is_file() else None
    if path.is_dir() or (reader is None and is_dicom(path)):
        reader = partial(read_dicom, modality=modality)
    elif modality is not None:
        raise ValueError(f"{path}: modality={modality!r} is for DICOM; remove it")
    if reader is None:
        known = f"{', '.join(READERS)}, a DICOM folder or an enhanced DICOM file"
        raise CTReadError(path, f"suffix {path.suffix!r}", known, "convert the file")
    if (missing := _missing_half(path)) is not None:
        raise CTReadError(path, f"no {missing.name} beside it", "both files of the pair", "fetch the other file too")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            raw = reader(path, key)
    except (CTReadError, ImportError, MemoryError):
        raise
    except Exception as error:
        # Parsers throw anything on a broken file: zlib.error, EOFError, HeaderDataError, RuntimeError ...
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        found = f"a file that cannot be read ({type(error).__name__}: {reason[0][:200]})"
        raise CTReadError(path, found, "a whole image file", "it is truncated or broken: fetch it again") from error
    # What parsers say on the way is noise; what this module says is not.
    for warning in caught:
        if issubclass(warning.category, AssumedGeometryWarning):
            warnings.warn(warning.message, stacklevel=4)
    return raw


def _missing_half(path: Path) -> Path | None:
    """The other file of an .img/.hdr pair, where it is not there."""
    if path.suffix.lower() not in (".img", ".hdr"):
        return None
    other = path.with_suffix(".hdr" if path.suffix.lower() == ".img" else ".img")
    there = {file.name.lower() for file in path.parent.iterdir()}
    return None if other.name.lower() in there else other
