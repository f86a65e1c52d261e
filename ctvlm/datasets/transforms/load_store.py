"""Loading of a preprocessed case or of a window of it."""

from __future__ import annotations

from collections.abc import Sequence

from ctvlm.anatomy import scheme_of
from ctvlm.datasets.transforms.boxes import Where, check_shape, pad_to, select_box
from ctvlm.datasets.transforms.region_kept import record_region_kept
from ctvlm.datasets.transforms.visible_steps import visible_steps
from ctvlm.registry import TRANSFORMS
from ctvlm.volume import CTReadError
from ctvlm.volume.intensity import AIR
from ctvlm.volume.store import SUFFIX, label_counts, open_together


@TRANSFORMS.register_module()
class LoadStore:
    """Read a case written by ``tools/preprocess.py``; replaces LoadCT and ResampleCT.

    Adds ``volume``, ``affine``, ``spacing``, ``region_map`` and ``lesion_map`` as LoadCT, and ``region_kept`` (see
    ``record_region_kept``). Only the blocks under the window are decoded. A case smaller than the window is padded with
    air and background at the end of each axis.

    Args:
        window: (D, H, W) to read; None for the whole volume.
        where: position of the window: ``random`` (torch's generator) or ``center``.
        drop_unseen: remove the reasoning steps whose regions are all outside the window.

    Raises:
        FileNotFoundError, CTReadError, UnknownLabelError: the message contains the file.
    """

    def __init__(
        self,
        window: Sequence[int] | None = None,
        where: Where = "random",
        drop_unseen: bool = False,
    ) -> None:
        if where not in ("random", "center"):
            raise ValueError(f"where: found {where!r}; expected 'random' or 'center'")
        self.window = None if window is None else check_shape(window, "window")
        self.where = where
        self.drop_unseen = drop_unseen
        # Deterministic results may be cached (see ManifestCT).
        self.deterministic = window is None or where == "center"

    def __call__(self, results: dict) -> dict:
        scheme = scheme_of(results)
        spec, masks = results["volume"], results.get("lesion_masks") or []
        maps = {"region_map": results.get("region_map"), "lesion_map": masks[0] if masks else None}
        paths = [spec["path"] if isinstance(spec, dict) else spec]
        paths += [entry["path"] for entry in maps.values() if entry is not None]
        _check_suffixes(paths)
        stored, *opened = open_together(paths)
        window = self.window or stored.shape
        box = select_box(stored.shape, window, self.where)
        ct = stored.read(box)
        out = {
            **results,
            "volume": pad_to(ct.array, window, AIR),
            "affine": ct.affine,
            "spacing": ct.spacing,
            "scheme": scheme.reference,
            # Fractions that remained in preprocessing.
            "region_kept": (results.get("extra") or {}).get("region_kept", {}),
        }
        for key, entry in maps.items():
            out[key] = None
            if entry is not None:
                labels = opened.pop(0)
                if labels.shape != stored.shape:
                    raise CTReadError(
                        labels.path, f"shape {labels.shape}", f"{stored.shape} as the CT", "preprocess the case again"
                    )
                if key == "region_map":
                    scheme.check_source(entry.get("source"), labels.path)
                array = labels.read(box).array
                out[key] = pad_to(array, window, 0)
                if key == "region_map" and array.shape != stored.shape:
                    out = record_region_kept(out, labels.label_counts(), label_counts(array))
        if self.drop_unseen:
            out["cot"] = visible_steps(out.get("cot") or [], out["region_map"], scheme)
        return out


def _check_suffixes(paths: Sequence[str]) -> None:
    for path in paths:
        if not str(path).lower().endswith(SUFFIX):
            action = "run tools/preprocess.py and use its manifest, or use LoadCT"
            raise CTReadError(path, "another file format", f"a file name that ends in {SUFFIX}", action)
