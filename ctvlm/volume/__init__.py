"""CT volumes with geometry: reading, checks, resampling, windows."""

from ctvlm.volume.ct_volume import CTReadError, CTVolume
from ctvlm.volume.io import (
    QFormConflictWarning,
    check_nifti_header,
    nifti_description,
    read_ct,
    read_grid,
    read_label_map,
    write_nifti,
)
from ctvlm.volume.match import MIN_OVERLAP, MaskMismatchError, match_mask, sample_mask
from ctvlm.volume.patch_grid import patch_grid_affine, patches_to_grid, peak_mm
from ctvlm.volume.resample import (
    body_box,
    crop,
    crop_or_pad,
    resample_to_grid,
    resample_to_shape,
    resample_to_spacing,
)

__all__ = [
    "CTReadError",
    "CTVolume",
    "QFormConflictWarning",
    "MIN_OVERLAP",
    "MaskMismatchError",
    "body_box",
    "check_nifti_header",
    "crop",
    "crop_or_pad",
    "match_mask",
    "nifti_description",
    "patch_grid_affine",
    "patches_to_grid",
    "peak_mm",
    "read_ct",
    "read_grid",
    "read_label_map",
    "resample_to_grid",
    "resample_to_shape",
    "resample_to_spacing",
    "sample_mask",
    "write_nifti",
]
