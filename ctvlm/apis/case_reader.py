"""Read cases from files with the test pipeline of a config."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.config import Config

import ctvlm.datasets  # noqa: F401  (registers the transforms)
from ctvlm.anatomy import scheme_of
from ctvlm.apis.case_input import InputCase, Mask, Volume, one_case
from ctvlm.apis.fingerprint import case_key
from ctvlm.apis.mask_check import check_mask
from ctvlm.datasets.training_text import with_steps
from ctvlm.datasets.transforms import LoadCT, LoadStore, PackCTInputs, ResampleCT
from ctvlm.datasets.transforms.load_ct import RegionWarning
from ctvlm.engine import ConfigError
from ctvlm.registry import TRANSFORMS
from ctvlm.utils.described import described
from ctvlm.utils.training_data import PHANTOM_SOURCE
from ctvlm.volume import CTVolume, nifti_description


@dataclass(frozen=True)
class ReadCase:
    """A case on its original grid and as input of the encoder.

    Attributes:
        ct: HU on the voxels of the file, in RAS+ order; ``ct.header`` is the grid of the input in its own axis order.
        region_map: region ids on the same voxels; None without a mask.
        packed: ``inputs`` and ``data_samples``, to be collated.
        affine: 4x4, from voxels (x, y, z) of the encoder's input to RAS+ mm.
        shape: shape of the encoder's input (D, H, W).
        synthetic: whether the CT is a phantom, according to the manifest's ``source`` or the NIfTI header.
        path: file or folder of the CT; "" for a volume in memory.
        key: identifies the CT, see ``case_key``.
    """

    case_id: str
    ct: CTVolume
    region_map: np.ndarray | None
    packed: dict[str, Any]
    affine: np.ndarray
    shape: tuple[int, int, int]
    synthetic: bool = False
    path: str = ""
    key: str = ""


class CaseReader:
    """Read cases and apply the test pipeline of a config.

    Configs with generated volumes (PhantomCT) do not resample. For these, cases are cropped to the body and resampled
    to the shape of the generated volumes.

    Args:
        pipeline: transforms between reading and packing; None uses those of the config.

    Raises:
        ConfigError: the config has no test or validation data, or the shape of the encoder's input is unknown.
    """

    def __init__(self, cfg: Config, pipeline: Sequence[dict | Callable] | None = None) -> None:
        dataset = _test_dataset(cfg)
        self.scheme = scheme_of(dataset)
        steps = dataset.get("pipeline", []) if pipeline is None else list(pipeline)
        # Identifies the pipeline, for results that are kept between runs.
        self.settings: list[Any] = described(list(steps))
        transforms = [_build(step) for step in steps]
        if any(isinstance(step, LoadStore) for step in transforms):
            raise ConfigError(
                f"the test pipeline of {cfg.filename} reads a store, whose grid is not in the config: pass "
                "pipeline=[dict(type='ResampleCT', ...)] with the settings of tools/preprocess.py"
            )
        loaders = [step for step in transforms if isinstance(step, LoadCT)]
        self._load = loaders[0] if loaders else LoadCT()
        self._transforms = [step for step in transforms if not isinstance(step, (LoadCT, PackCTInputs))]
        if pipeline is None and not loaders and not any(isinstance(step, ResampleCT) for step in transforms):
            shape = _input_shape(cfg, dataset)
            self.settings.append(["ResampleCT", list(shape)])
            self._transforms.insert(0, ResampleCT(shape=shape, crop_to_body=True))

    def __call__(self, volume: Volume, mask: Mask | None = None, mask_source: str | None = None) -> ReadCase:
        """Read a volume, with or without a region map.

        Args:
            volume: a CTVolume, or a path that ``read_ct`` can read.
            mask: a label map (file or CTVolume), a folder with one mask file per class (``liver.nii.gz``), or the
                ``region_map`` of a case in a manifest.
            mask_source: meaning of the ids of a label map, one of ``RegionScheme.sources``, for example
                ``totalsegmentator_v2``.

        Raises:
            FileNotFoundError, CTReadError, MaskMismatchError, UnknownLabelError: as LoadCT.
            CaseInputError: as ``one_case`` and ``check_mask``.
        """
        return self.read_case(one_case(volume, mask, mask_source, self.scheme).entry)

    def read_case(self, case: dict, with_text: bool = False) -> ReadCase:
        """Read a case of a manifest; ``with_text`` adds the reasoning steps that training would use."""
        case = {**case, "scheme": self.scheme.reference}
        if with_text:
            case = with_steps(case, self.scheme.reference)
        loaded = self._loaded(case)
        results = loaded
        for transform in self._transforms:
            if with_text or not getattr(transform, "writes_text", False):
                results = transform(results)
        return ReadCase(
            case_id=case["case_id"],
            ct=CTVolume(loaded["volume"], loaded["affine"], loaded["shear_degrees"], loaded["header"]),
            region_map=loaded["region_map"],
            packed=PackCTInputs()(results),
            affine=np.asarray(results["affine"], dtype=np.float64),
            shape=tuple(results["volume"].shape),
            synthetic=_is_phantom(case),
            path=InputCase(case).path,
            key=case_key(InputCase(case)),
        )

    def _loaded(self, case: dict) -> dict:
        """Results of LoadCT. A mask of another scan is an error."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RegionWarning)  # check_mask warns
            loaded = self._load(case)
        if (mask := case.get("region_map")) is not None:
            check_mask(loaded, mask)
        return loaded


def _is_phantom(case: dict) -> bool:
    volume = case["volume"]
    if case.get("source") == PHANTOM_SOURCE:
        return True
    if isinstance(volume, CTVolume):
        return False
    return nifti_description(volume["path"] if isinstance(volume, dict) else volume) == PHANTOM_SOURCE


def _build(step: dict | Callable) -> Callable:
    return TRANSFORMS.build(step) if isinstance(step, dict) else step


def _test_dataset(cfg: Config) -> dict:
    loader = cfg.get("test_dataloader") or cfg.get("val_dataloader")
    if not loader:
        raise ConfigError(f"config {cfg.filename} has neither a test_dataloader nor a val_dataloader")
    dataset = loader["dataset"]
    while "pipeline" not in dataset and "dataset" in dataset:
        dataset = dataset["dataset"]
    return dataset


def _input_shape(cfg: Config, dataset: dict) -> tuple[int, int, int]:
    shape = dataset.get("shape") or cfg.model.backbone.get("img_size")
    if shape is None:
        raise ConfigError(
            f"config {cfg.filename} does not contain the shape of the encoder's input: pass pipeline=[dict("
            "type='ResampleCT', shape=(D, H, W))], or set model.backbone.img_size"
        )
    return tuple(shape)
