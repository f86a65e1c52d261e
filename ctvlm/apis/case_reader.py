"""From files to what a model takes, the way its config reads test cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

import ctvlm.datasets  # noqa: F401  (registers the transforms)
from ctvlm.anatomy import scheme_of
from ctvlm.datasets.conversion.folder import SUFFIXES, class_of
from ctvlm.datasets.training_text import with_steps
from ctvlm.datasets.transforms import LoadCT, LoadStore, PackCTInputs, ResampleCT
from ctvlm.engine import ConfigError
from ctvlm.registry import TRANSFORMS
from ctvlm.utils.training_data import PHANTOM_SOURCE
from ctvlm.volume import CTVolume, match_mask, nifti_description, read_ct, read_label_map
from ctvlm.volume.orient import to_ras

Volume = str | Path | CTVolume
Mask = str | Path | dict | CTVolume


@dataclass(frozen=True)
class ReadCase:
    """A case on its own grid, and as the encoder takes it.

    Attributes:
        ct: HU on the file's voxels, in RAS+ order.
        region_map: region ids on the same voxels, where a mask was given.
        packed: ``inputs`` and ``data_samples``, to be collated.
        affine: 4x4 of the encoder's voxels (x, y, z) to RAS+ mm.
        shape: the encoder's voxels (D, H, W).
        synthetic: the CT is a phantom, by the manifest's ``source`` or the NIfTI header's description.
    """

    case_id: str
    ct: CTVolume
    region_map: np.ndarray | None
    packed: dict[str, Any]
    affine: np.ndarray
    shape: tuple[int, int, int]
    synthetic: bool = False


class CaseReader:
    """Reads a case and sends it through the test pipeline of a config, whatever data set that config trains on.

    A config that draws its volumes (PhantomCT) has no resampling: its cases are cropped to the body and resampled to
    the shape that it draws.

    Args:
        pipeline: transforms between reading and packing; None: the config's.

    Raises:
        ConfigError: the config has no test or validation data, or does not say what grid the encoder reads.
    """

    def __init__(self, cfg: Config, pipeline: Sequence[dict | Callable] | None = None) -> None:
        dataset = _test_dataset(cfg)
        self.scheme = scheme_of(dataset)
        built = [_built(step) for step in (dataset.get("pipeline", []) if pipeline is None else pipeline)]
        if any(isinstance(step, LoadStore) for step in built):
            raise ConfigError(
                f"the test pipeline of {cfg.filename} reads a store, and does not say on what grid that lies: give "
                "pipeline=[dict(type='ResampleCT', ...)] with what tools/preprocess.py was told"
            )
        loads = [step for step in built if isinstance(step, LoadCT)]
        self._load = loads[0] if loads else LoadCT()
        self._steps = [step for step in built if not isinstance(step, (LoadCT, PackCTInputs))]
        if pipeline is None and not loads and not any(isinstance(step, ResampleCT) for step in built):
            self._steps.insert(0, ResampleCT(shape=_drawn_shape(cfg, dataset), crop_to_body=True))

    def __call__(self, volume: Volume, mask: Mask | None = None, mask_source: str | None = None) -> ReadCase:
        """Read a volume, with or without a region map.

        Args:
            volume: anything that ``read_ct`` reads, or a CTVolume.
            mask: a label map (file or CTVolume), a folder with a mask per class (``liver.nii.gz``), or the
                ``region_map`` of a manifest's case.
            mask_source: what the ids of a label map are: one of ``RegionScheme.sources``, such as
                ``totalsegmentator_v2``.

        Raises:
            FileNotFoundError, CTReadError, MaskMismatchError, UnknownLabelError: as LoadCT; they name the file.
            ValueError: a label map without ``mask_source``, or a folder without a mask of a known class.
        """
        name = "volume" if isinstance(volume, CTVolume) else Path(str(volume)).name
        region_map = None if mask is None else self._mask(mask, mask_source)
        return self.read_case(dict(case_id=name, patient_id=name, volume=volume, region_map=region_map))

    def read_case(self, case: dict, with_text: bool = False) -> ReadCase:
        """Read a case of a manifest; ``with_text`` adds the steps that training would read or measure."""
        case = {**case, "scheme": self.scheme.reference}
        if with_text:
            case = with_steps(case, self.scheme.reference)
        loaded = self._loaded(case)
        results = loaded
        for step in self._steps:
            if with_text or not getattr(step, "writes_text", False):
                results = step(results)
        return ReadCase(
            case_id=case["case_id"],
            ct=CTVolume(loaded["volume"], loaded["affine"], loaded["shear_degrees"]),
            region_map=loaded["region_map"],
            packed=PackCTInputs()(results),
            affine=np.asarray(results["affine"], dtype=np.float64),
            shape=tuple(results["volume"].shape),
            synthetic=_is_phantom(case),
        )

    def _loaded(self, case: dict) -> dict:
        """What LoadCT gives, also for what is in memory already."""
        volume, mask = case["volume"], case.get("region_map")
        if not isinstance(volume, CTVolume):
            if mask is None or "volume" not in mask:
                return self._load(case)
            spec = dict(volume) if isinstance(volume, dict) else {"path": volume}
            volume = read_ct(spec.pop("path"), **spec)
        ct, region_map = _ras(volume), None
        if mask is not None:
            matched = match_mask(_ras(_labels(mask), labels=True), ct)
            region_map = None if matched is None else self.scheme.fold(matched.array, mask["source"])
        arrays = dict(
            volume=ct.array,
            affine=ct.affine,
            spacing=ct.spacing,
            shear_degrees=ct.shear_degrees,
            region_map=region_map,
        )
        return {**case, **arrays, "coarse_masks": {}, "lesion_map": None}

    def _mask(self, mask: Mask, source: str | None) -> dict:
        """The ``region_map`` of a manifest's case; a label map in memory stands under ``volume``."""
        if isinstance(mask, dict):
            return mask
        if not isinstance(mask, CTVolume) and Path(mask).is_dir():
            files = sorted(path for path in Path(mask).iterdir() if path.name.lower().endswith(SUFFIXES))
            classes = {name: str(path) for path in files if (name := class_of(path, self.scheme))}
            if not classes:
                raise ValueError(
                    f"{mask} holds {len(files)} image files, and none is named after a class that is known; expected "
                    "a mask per class, such as liver.nii.gz"
                )
            return {"files": classes}
        if source is None:
            raise ValueError(
                "a label map's ids mean nothing without their source (TotalSegmentator's versions differ): give "
                f"mask_source, one of {', '.join(self.scheme.sources)}"
            )
        return {"volume" if isinstance(mask, CTVolume) else "path": mask, "source": source}


def _ras(volume: CTVolume, labels: bool = False) -> CTVolume:
    turned = to_ras(volume.array.transpose(2, 1, 0), volume.affine, labels=labels)
    return replace(turned, header=volume.header)


def _is_phantom(case: dict) -> bool:
    volume = case["volume"]
    if case.get("source") == PHANTOM_SOURCE:
        return True
    if isinstance(volume, CTVolume):
        return False
    return nifti_description(volume["path"] if isinstance(volume, dict) else volume) == PHANTOM_SOURCE


def _labels(mask: dict) -> CTVolume:
    if "files" in mask:
        raise ValueError("a volume in memory takes one label map, not a folder of masks: give the volume as a file")
    if "volume" in mask:
        return mask["volume"]
    return read_label_map(mask["path"], **{k: v for k, v in mask.items() if k not in ("path", "source")})


def _built(step: dict | Callable) -> Callable:
    return TRANSFORMS.build(step) if isinstance(step, dict) else step


def _test_dataset(cfg: Config) -> dict:
    loader = cfg.get("test_dataloader") or cfg.get("val_dataloader")
    if not loader:
        raise ConfigError(f"the config {cfg.filename} has no test_dataloader or val_dataloader to read cases as")
    dataset = loader["dataset"]
    while "pipeline" not in dataset and "dataset" in dataset:
        dataset = dataset["dataset"]
    return dataset


def _drawn_shape(cfg: Config, dataset: dict) -> tuple[int, int, int]:
    shape = dataset.get("shape") or cfg.model.backbone.get("img_size")
    if shape is None:
        raise ConfigError(
            f"the config {cfg.filename} does not say what shape the encoder reads: give pipeline=[dict("
            "type='ResampleCT', shape=(D, H, W))], or set model.backbone.img_size"
        )
    return tuple(shape)
