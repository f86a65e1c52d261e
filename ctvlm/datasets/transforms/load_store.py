"""From a preprocessed case to arrays: everything, or one window."""

from __future__ import annotations

from collections.abc import Sequence

from ctvlm.anatomy import scheme_of
from ctvlm.datasets.transforms.boxes import Where, box_in, checked_shape, padded
from ctvlm.datasets.transforms.kept import with_kept
from ctvlm.datasets.transforms.visible import visible_steps
from ctvlm.registry import TRANSFORMS
from ctvlm.volume import CTReadError
from ctvlm.volume.intensity import AIR
from ctvlm.volume.store import SUFFIX, StoredArray, label_counts


@TRANSFORMS.register_module()
class LoadStore:
    """Read a case of a store that ``tools/preprocess.py`` wrote; takes the place of LoadCT and ResampleCT.

    Adds what LoadCT adds, and ``region_kept`` where a window cuts (see ``with_kept``). Only the blocks under the window
    are decoded. A case smaller than the window is padded with air (and background) at its far sides.

    Args:
        window: (D, H, W) to read; None reads all.
        where: of the window: ``random`` (drawn from torch's generator) or ``center``.
        drop_unseen: leave out the reasoning steps that name regions of which no voxel lies in the window.

    Raises:
        FileNotFoundError, CTReadError, UnknownLabelError: name the file.
    """

    def __init__(
        self,
        window: Sequence[int] | None = None,
        where: Where = "random",
        drop_unseen: bool = False,
    ) -> None:
        if where not in ("random", "center"):
            raise ValueError(f"where is {where!r}; expected 'random' or 'center'")
        self.window = None if window is None else checked_shape(window, "window")
        self.where = where
        self.drop_unseen = drop_unseen
        # A data set may then keep what this returns (see ManifestCT's cache).
        self.deterministic = window is None or where == "center"

    def __call__(self, results: dict) -> dict:
        scheme = scheme_of(results)
        spec = results["volume"]
        stored = self._open(spec["path"] if isinstance(spec, dict) else spec)
        window = self.window or stored.shape
        box = box_in(stored.shape, window, self.where)
        ct = stored.read(box)
        out = {
            **results,
            "volume": padded(ct.array, window, AIR),
            "affine": ct.affine,
            "spacing": ct.spacing,
            "scheme": scheme.reference,
            # What the store's own recipe cut away.
            "region_kept": (results.get("extra") or {}).get("region_kept", {}),
        }
        masks = results.get("lesion_masks") or []
        for key, entry in (("region_map", results.get("region_map")), ("lesion_map", masks[0] if masks else None)):
            out[key] = None
            if entry is not None:
                labels = self._open(entry["path"])
                if labels.shape != stored.shape:
                    raise CTReadError(
                        labels.path, f"shape {labels.shape}", f"{stored.shape}, the CT's", "preprocess the case again"
                    )
                if key == "region_map":
                    scheme.check_source(entry.get("source"), labels.path)
                array = labels.read(box).array
                out[key] = padded(array, window, 0)
                if key == "region_map" and array.shape != stored.shape:
                    out = with_kept(out, labels.label_counts(), label_counts(array))
        if self.drop_unseen:
            out["cot"] = visible_steps(out.get("cot") or [], out["region_map"], scheme)
        return out

    @staticmethod
    def _open(path: str) -> StoredArray:
        if not str(path).lower().endswith(SUFFIX):
            do = "run tools/preprocess.py and use its manifest, or load with LoadCT"
            raise CTReadError(path, "a file that is not of a store", f"a name that ends in {SUFFIX}", do)
        return StoredArray(path)
