"""File types to (array in file axes, affine to RAS+ mm). Libraries do the parsing; nothing is checked as HU here."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from ctvlm.volume.ct_volume import CTReadError
from ctvlm.volume.orient import affine_from_axes
from ctvlm.volume.store import SUFFIX, StoredArray

# Array in file order, affine of those axes (None: the file does not say).
RawImage = tuple[np.ndarray, "np.ndarray | None"]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Keys under which .npz volumes are met in the field, besides our own "volume".
NPZ_KEYS = ("volume", "ct", "arr_0", "arr", "array", "image", "mask")


def read_nifti(path: Path, key: str | None = None) -> RawImage:
    """NIfTI through nibabel: sform before qform; no affine where both codes are 0."""
    image = nib.load(path)
    if image.get_data_dtype().kind not in "iuf":
        raise CTReadError(
            path, f"dtype {image.get_data_dtype()}", "one number per voxel", "this is a picture, not a CT"
        )
    array = np.asanyarray(image.dataobj)
    header = image.header
    placed = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    return array, image.affine if placed else None


def read_sitk(path: Path, key: str | None = None) -> RawImage:
    """MetaImage and NRRD through SimpleITK."""
    sitk = _simpleitk(path)
    image = sitk.ReadImage(str(path))
    return _from_sitk(image, path)


def read_dicom(path: Path, key: str | None = None) -> RawImage:
    """One CT series from a folder; ``key`` is the series UID where there are several."""
    sitk = _simpleitk(path)
    reader = sitk.ImageSeriesReader()
    series = list(reader.GetGDCMSeriesIDs(str(path)))
    if key is None and len(series) != 1:
        do = f"give key=, one of {', '.join(series)}" if series else "name the folder that holds the slices"
        raise CTReadError(path, f"{len(series)} DICOM series", "one series in the folder", do)
    files = reader.GetGDCMSeriesFileNames(str(path), key or series[0])
    first = sitk.ReadImage(files[0])
    modality = first.GetMetaData("0008|0060").strip() if first.HasMetaDataKey("0008|0060") else "none"
    if modality != "CT":
        raise CTReadError(path, f"modality {modality}", "modality CT", "drop the series")
    reader.SetFileNames(files)
    image = reader.Execute()
    array, affine = _from_sitk(image, path)
    if len(files) > 1:
        affine[:3, 2] = _slice_step(sitk, files, path)
    return array, affine


def _slice_step(sitk, files: list[str], path: Path) -> np.ndarray:
    """Step between slice origins in RAS mm; the series reader itself averages gaps and drops a gantry tilt."""
    origins = []
    for name in files:
        one = sitk.ImageFileReader()
        one.SetFileName(name)
        one.ReadImageInformation()
        origins.append(one.GetOrigin())
    steps = np.diff(np.asarray(origins), axis=0) * np.array([-1.0, -1.0, 1.0])
    mean = steps.mean(axis=0)
    worst = float(np.linalg.norm(steps - mean, axis=1).max())
    if worst > max(0.02, 0.02 * float(np.linalg.norm(mean))):
        gaps = np.linalg.norm(steps, axis=1)
        raise CTReadError(
            path,
            f"slices {gaps.min():.2f} to {gaps.max():.2f} mm apart",
            "even gaps",
            "a slice is missing or two series are mixed: complete the series, or resample it before",
        )
    return mean


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
    ".mha": read_sitk,
    ".mhd": read_sitk,
    ".nrrd": read_sitk,
    ".npz": read_npz,
    SUFFIX: read_store,
}


def read_raw(path: Path, key: str | None = None) -> RawImage:
    """Read any known file type; whatever a parser throws becomes a CTReadError that names the file.

    Raises:
        FileNotFoundError, CTReadError; ImportError where an optional reader is missing.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; check the path (manifest paths are relative to the manifest)")
    reader = read_dicom if path.is_dir() else next((r for end, r in READERS.items() if path.name.endswith(end)), None)
    if reader is None:
        raise CTReadError(
            path, f"suffix {path.suffix!r}", f"{', '.join(READERS)} or a DICOM folder", "convert the file"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return reader(path, key)
    except (CTReadError, ImportError, MemoryError):
        raise
    except Exception as error:
        # Parsers throw anything on a broken file: zlib.error, EOFError, HeaderDataError, RuntimeError ...
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        found = f"a file that cannot be read ({type(error).__name__}: {reason[0][:200]})"
        raise CTReadError(path, found, "a whole image file", "it is truncated or broken: fetch it again") from error
