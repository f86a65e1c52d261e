"""Region maps of CTs on the grid of the input."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctvlm.apis.case_input import Inputs, Mask
from ctvlm.apis.case_reader import ReadCase
from ctvlm.apis.inferencer import Inferencer, UnsupportedTaskError
from ctvlm.apis.save_cases import CaseWriter, RunOptions, SaveSummary, save_cases
from ctvlm.engine.checkpoint.files import json_text
from ctvlm.models.objectives import BatchContext
from ctvlm.utils import atomic_write
from ctvlm.volume import CTVolume, resample_to_grid, write_nifti
from ctvlm.volume.checksums import sha256_of
from ctvlm.volume.orient import is_sheared, orthogonal_grid

PREDICTED, FROM_MASK = "predicted", "mask"


@dataclass(frozen=True)
class RegionMap:
    """Regions of one CT on the grid of the input.

    Attributes:
        labels: region ids (uint8) on the voxels of the input, in its own axis order and direction. The grid of a
            sheared input (tilted gantry) is straightened.
        names: name of each region id of the scheme.
        scheme: name and version of the region scheme.
        origin: ``predicted``, or ``mask`` if the input has a mask, whose regions are used instead.
        straightened: whether the grid of the input is sheared, and the map has the orthogonal grid that covers it,
            because NIfTI readers disagree about sheared grids (see ``orthogonal_grid``).
    """

    case_id: str
    labels: CTVolume
    names: dict[int, str]
    scheme: str
    origin: str
    straightened: bool = False

    @property
    def volumes_ml(self) -> dict[str, float]:
        """Volume of each region in the map."""
        counts = np.bincount(self.labels.array.ravel(), minlength=max(self.names) + 1)
        return {name: float(counts[i] * self.labels.voxel_ml) for i, name in self.names.items() if counts[i]}

    def to_dict(self) -> dict[str, Any]:
        """Everything but the voxels, in plain containers for JSON."""
        return dict(
            case_id=self.case_id,
            origin=self.origin,
            scheme=self.scheme,
            grid="input, straightened" if self.straightened else "input",
            regions={str(i): name for i, name in self.names.items()},
            volumes_ml=self.volumes_ml,
        )

    def save(self, path: str | Path, record: dict[str, Any] | None = None) -> Path:
        """Write the map as NIfTI, and region names and volumes as JSON next to it; returns the path of the JSON.

        Args:
            path: ends with .nii or .nii.gz.
            record: origin of the map, for the JSON.
        """
        path = Path(path)
        if not path.name.endswith((".nii", ".nii.gz")):
            raise ValueError(f"{path}: found suffix {path.suffix!r}; expected .nii or .nii.gz")
        sidecar = sidecar_of(path)
        with atomic_write(sidecar) as part, atomic_write(path) as map_part:
            write_nifti(self.labels, map_part)
            content = dict(file=path.name, sha256=sha256_of(map_part), **self.to_dict(), record=record or {})
            part.write_text(json_text(content), encoding="utf-8")
            sidecar.unlink(missing_ok=True)  # belongs to the old map, which is replaced first
        return sidecar


def sidecar_of(path: Path) -> Path:
    """JSON file of a region map."""
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")


@dataclass(frozen=True)
class NiftiWriter(CaseWriter):
    """One region map (.nii.gz) per case, with a JSON file next to it."""

    suffix = ".nii.gz"

    def write(self, result: RegionMap, path: Path, record: dict[str, Any]) -> None:
        result.save(path, record)

    def discard(self, case_id: str) -> None:
        super().discard(case_id)
        sidecar_of(self.path(case_id)).unlink(missing_ok=True)

    def read_record(self, path: Path) -> dict[str, Any]:
        content = json.loads(sidecar_of(path).read_text(encoding="utf-8"))
        return content["record"] if sha256_of(path) == content["sha256"] else {}


class RegionSegmenter(Inferencer[RegionMap]):
    """Region map of a CT: the regions of its mask if it has one, else those that the model predicts.

    Example::

        RegionSegmenter()("ct.nii.gz").save("regions.nii.gz")

    Arguments and errors are those of Inferencer.

    Raises:
        UnsupportedTaskError: the model predicts no region map.
    """

    task = "segmenting"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        objectives = self.model.objectives.values()
        self._objectives = [objective for objective in objectives if "pred_region_map" in objective.needs]
        if not self._objectives:
            raise UnsupportedTaskError(
                "this model predicts no region map; expected an objective that does, such as SegmentationObjective "
                "(configs/vit3d_cot_contrastive_bare.py)"
            )

    def save(
        self,
        inputs: Inputs,
        out: str | Path,
        mask: Mask | Sequence[Mask | None] | None = None,
        mask_source: str | None = None,
        run: RunOptions | None = None,
        **options: Any,
    ) -> SaveSummary:
        """Write the region maps of all cases of an input to the folder ``out``; arguments as FeatureExtractor.save."""
        return save_cases(self, self.find(inputs, mask, mask_source, **options), NiftiWriter(str(out)), run)

    @torch.no_grad()
    def predict(self, cases: Sequence[ReadCase], context: BatchContext | None = None) -> list[RegionMap]:
        predicted: list[np.ndarray | None] = [None] * len(cases)
        if any(case.region_map is None for case in cases):
            context = self.context(cases) if context is None else context
            # The last objective decides, as in training.
            self._objectives[-1].predict(context, {"pred_region_map"})
            predicted = [np.asarray(sample.pred_region_map) for sample in context.samples]
        return [self._result(case, array) for case, array in zip(cases, predicted, strict=True)]

    def _result(self, case: ReadCase, predicted: np.ndarray | None) -> RegionMap:
        scheme, header = self.read.scheme, case.ct.header
        assert header is not None  # CaseReader always sets it
        if case.region_map is None:
            source = CTVolume(predicted, case.affine)  # type: ignore[arg-type]
        else:
            source = CTVolume(case.region_map, case.ct.affine)
        shape_xyz, affine, straightened = header.shape, header.affine, is_sheared(header.affine)
        if straightened:
            shape_xyz, affine = orthogonal_grid(shape_xyz, affine)
        labels = resample_to_grid(source, affine, shape_xyz[::-1], "nearest", fill=0)
        return RegionMap(
            case.case_id,
            labels.with_array(labels.array.astype(np.uint8)),
            {region.id: region.name for region in scheme.regions},
            scheme.source_id,
            PREDICTED if case.region_map is None else FROM_MASK,
            straightened,
        )
