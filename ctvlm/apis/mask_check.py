"""Check that a mask belongs to its CT."""

from __future__ import annotations

import warnings
from typing import Any

from ctvlm.apis.case_input import CaseInputError
from ctvlm.datasets.transforms.load_ct import RegionWarning
from ctvlm.volume import MaskMismatchError, read_label_map

# A mask with at least this share of implausible regions is refused. On real scans, the mask of another patient or a
# mask that is shifted by 30 mm has 38% to 54%, and the right mask none.
MAX_IMPLAUSIBLE = 1 / 3


def check_mask(loaded: dict[str, Any], mask: dict[str, Any]) -> None:
    """Refuse a mask of another scan.

    Args:
        loaded: results of LoadCT.
        mask: ``region_map`` of the case.

    Raises:
        MaskMismatchError: the mask has labels, but none on the voxels of the CT.
        CaseInputError: the mean HU or the side of at least a third of the checked regions contradicts their names.

    Warns:
        RegionWarning: fewer regions are implausible.
    """
    if loaded["region_map"] is None:
        if not loaded["coarse_masks"] and (name := _marked(mask)):
            raise MaskMismatchError(
                f"{name}: found labels outside the CT only; expected labels on its voxels. The mask belongs to another "
                "scan, or one of the two headers is wrong."
            )
        return
    check = loaded["region_check"]
    if not check.problems:
        return
    if len(check.problems) >= MAX_IMPLAUSIBLE * len(check.checked):
        raise CaseInputError(
            f"{mask_name(mask)}: {len(check.problems)} of {len(check.checked)} regions are implausible "
            f"({check.messages[0].rstrip('.')}). The mask belongs to another scan, or its ids have another source; "
            "pass the right mask or none"
        )
    warnings.warn(f"case {loaded['case_id']}: {'; '.join(check.messages[:4])}", RegionWarning, stacklevel=2)


def mask_name(mask: dict[str, Any]) -> str:
    """File of a mask for messages."""
    return str(mask.get("path") or next(iter(mask.get("files", {}).values()), "mask"))


def _marked(mask: dict[str, Any]) -> str:
    """First file of a mask that has a label; "" if all are empty."""
    if "volume" in mask:
        return "mask" if mask["volume"].array.any() else ""
    options = {key: value for key, value in mask.items() if key not in ("path", "files", "source")}
    paths = [mask["path"]] if "path" in mask else list(mask["files"].values())
    return next((str(path) for path in paths if read_label_map(path, **options).array.any()), "")
