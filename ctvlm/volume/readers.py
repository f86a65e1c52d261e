"""Readers of all file types: array in file axes and affine to RAS+ mm, without a check of HU."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from ctvlm.utils import CTVLMError, MissingPackageError
from ctvlm.volume.ct_volume import CTReadError
from ctvlm.volume.detached import check_compressed, check_linked
from ctvlm.volume.dicom import read_dicom
from ctvlm.volume.dicom_headers import is_dicom
from ctvlm.volume.headers import load_nifti
from ctvlm.volume.nifti_voxels import nifti_voxels
from ctvlm.volume.orient import affine_from_axes
from ctvlm.volume.sizes import check_npz, check_size
from ctvlm.volume.store import SUFFIX, StoredArray

# Array in file order, and the affine of its axes (None: not in the file).
RawImage = tuple[np.ndarray, "np.ndarray | None"]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
RAD_CHESTCT_NAME = re.compile(r"(trn|val|tst)\d+")
# Array names of volumes in .npz files; "volume" is ctvlm's.
NPZ_KEYS = ("volume", "ct", "arr_0", "arr", "array", "image", "mask")


class AssumedGeometryWarning(UserWarning):
    """A file without geometry is assumed to be from a known data set."""


def read_nifti(path: Path, key: str | None = None) -> RawImage:
    """NIfTI, with nibabel: sform before qform; no affine if both codes are 0, or for an Analyze 7.5 pair."""
    image = load_nifti(path)
    if image.get_data_dtype().kind not in "iuf":
        found = f"dtype {image.get_data_dtype()}"
        raise CTReadError(path, found, "one number per voxel", "check that the file is a CT or mask")
    check_size(path, image.shape, 0)  # nifti_voxels checks the bytes
    array = nifti_voxels(image, path)
    header = image.header
    if "sform_code" not in header:
        return array, None
    has_affine = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    return array, image.affine if has_affine else None


def read_sitk(path: Path, key: str | None = None) -> RawImage:
    """MetaImage and NRRD, with SimpleITK."""
    sitk = _simpleitk(path)
    # Explicit, because SimpleITK recognises .mha and .mhd by lower-case suffixes only.
    parser = "NrrdImageIO" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImageIO"
    reader = sitk.ImageFileReader()
    reader.SetImageIO(parser)
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    check_size(path, reader.GetSize(), _sitk_bytes(reader))
    check_compressed(path)
    return _from_sitk(reader.Execute(), path)


def read_npz(path: Path, key: str | None = None) -> RawImage:
    """NumPy archives; ``key`` is the name of the array."""
    with np.load(path, allow_pickle=False) as data:
        names = list(data.keys())
        name = key or next((k for k in NPZ_KEYS if k in names), None)
        if name is None or name not in names:
            raise CTReadError(path, f"arrays {names}", f"one of {', '.join(NPZ_KEYS)}", "give key= (the array's name)")
        check_npz(path, [name, *(["affine"] if "affine" in names else [])])
        array = data[name]
        if "affine" in names:
            # Layout of ctvlm: array (z, y, x), affine of (x, y, z).
            return array.T, np.asarray(data["affine"], dtype=np.float64)
    if name == "ct":
        if not RAD_CHESTCT_NAME.fullmatch(path.stem):
            warnings.warn(
                f"{path}: found an array 'ct' without geometry, as in Rad-ChestCT; assumed voxels of 0.8 mm with axes "
                "IPL. For another data set declare affine=, or spacing= and axes=.",
                AssumedGeometryWarning,
                stacklevel=2,
            )
        # Rad-ChestCT: (z, y, x) towards inferior, posterior and left, 0.8 mm isotropic.
        return array, affine_from_axes("IPL", (0.8, 0.8, 0.8))
    return array, None


def read_store(path: Path, key: str | None = None) -> RawImage:
    """Stored volumes of tools/preprocess.py; ``key`` selects one label of a label map."""
    stored = StoredArray(path).read()
    array = stored.array if key is None else (stored.array == int(key)).astype(np.uint8)
    return array.T, stored.affine


def _sitk_bytes(reader) -> int:
    """Bytes per voxel of an opened image."""
    import SimpleITK as sitk

    kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())  # such as "vector of 16-bit signed integer"
    bits = re.search(r"(\d+)-bit", kind)
    parts = 2 if "complex" in kind else reader.GetNumberOfComponents()
    return parts * (int(bits[1]) // 8 if bits else 8)


def _from_sitk(image, path: Path) -> RawImage:
    if image.GetNumberOfComponentsPerPixel() != 1:
        found = f"{image.GetNumberOfComponentsPerPixel()} numbers per voxel"
        raise CTReadError(path, found, "one number per voxel", "check that the file is a CT or mask")
    if image.GetDimension() != 3:
        raise CTReadError(path, f"{image.GetDimension()} dimensions", "3", "split it into volumes")
    import SimpleITK as sitk

    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), LPS_TO_RAS @ affine


def _simpleitk(path: Path):
    try:
        import SimpleITK
    except ImportError:
        raise MissingPackageError(f"{path}: reading this file type needs SimpleITK: pip install SimpleITK") from None
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


def read_raw(path: Path, key: str | None = None, modality: str | None = None, allow_outside: bool = False) -> RawImage:
    """Read any supported file type; suffixes can have any case.

    Args:
        key: see ``ctvlm.volume.read_ct``.
        modality: for DICOM files without a Modality tag.
        allow_outside: see ``ctvlm.volume.read_ct``.

    Raises:
        CTReadError: the file type is unknown, the parser raised any error, or the data is in another folder.
        FileNotFoundError: the file does not exist.
        MissingPackageError: an optional reader is not installed.
        ValueError: ``modality`` is given for another file type.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such file. A relative path starts at the current folder, in a manifest at its folder."
        )
    name = path.name.lower()
    reader = next((r for end, r in READERS.items() if name.endswith(end)), None) if path.is_file() else None
    if path.is_dir() or (reader is None and is_dicom(path)):
        reader = partial(read_dicom, modality=modality)
    elif modality is not None:
        raise ValueError(f"{path}: found modality={modality!r}; expected a DICOM file. Remove modality=.")
    if reader is None:
        known = f"{', '.join(READERS)}, a DICOM folder or an enhanced DICOM file"
        raise CTReadError(path, f"suffix {path.suffix!r}", known, "convert the file")
    if (missing := _missing_half(path)) is not None:
        raise CTReadError(path, f"no {missing.name}", "both files of the pair", "add the other file")
    try:
        check_linked(path, allow_outside)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            raw = reader(path, key)
    except (CTReadError, CTVLMError, ImportError):
        raise
    except MemoryError as error:
        action = "use fewer workers or a machine with more memory"
        raise CTReadError(path, "more voxels than fit into memory", "a file that fits", action) from error
    except Exception as error:
        # Parsers raise many types for a damaged file: zlib.error, EOFError, HeaderDataError, RuntimeError ...
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        found = f"a file that cannot be read ({type(error).__name__}: {reason[0][:200]})"
        action = "download the truncated or damaged file again"
        raise CTReadError(path, found, "a complete image file", action) from error
    # Warnings of parsers are dropped, except for those of this module.
    for warning in caught:
        if issubclass(warning.category, AssumedGeometryWarning):
            warnings.warn(warning.message, stacklevel=4)
    return raw


def _missing_half(path: Path) -> Path | None:
    """The other file of an .img/.hdr pair if it does not exist; None otherwise."""
    if path.suffix.lower() not in (".img", ".hdr"):
        return None
    other = path.with_suffix(".hdr" if path.suffix.lower() == ".img" else ".img")
    existing = {file.name.lower() for file in path.parent.iterdir()}
    return None if other.name.lower() in existing else other
