"""Preprocessing of a collated batch in HU for the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from ctvlm.models.region_encoders.overlap import UNKNOWN, check_region_map
from ctvlm.registry import MODELS
from ctvlm.structures import Anatomy
from ctvlm.volume.windows import apply_windows, resolve_window


@MODELS.register_module()
class CTDataPreprocessor(BaseDataPreprocessor):
    """Move a batch to the device and stack it; ``window`` turns HU into C channels in [0, 1].

    Volumes stay in HU, one int16 channel instead of C float channels, until the model applies ``window`` to the cases
    that it encodes at a time. A model that encodes a batch in chunks sets ``by_case``: training batches are then
    returned unchanged, and the model passes each chunk through the preprocessor.

    A training step on a GPU does not wait for the device. What needs values is therefore done here on the host, before
    the copy (the check of region maps), or reads what stays there (spacings, and volumes that select patches).

    Args:
        windows: names or (centre, width) in HU; each gives one channel.
        region_map_drop: probability that the encoder does not receive the region map of a case in training.
    """

    def __init__(
        self,
        windows: Sequence[str | tuple[float, float]] = ("lung", "soft_tissue", "bone"),
        region_map_drop: float = 0.0,
    ) -> None:
        # Copies from pinned memory to a GPU do not wait. On MPS, where this was not tested, copies wait.
        super().__init__(non_blocking=not torch.backends.mps.is_available())
        self.region_map_drop = region_map_drop
        self.windows: list[str | tuple[float, float]] = [resolve_window(window) for window in windows]
        self.by_case = False
        # The model sets the number of regions of its encoder, which maps are checked against.
        self.num_regions: int | None = None

    def forward(self, data: dict, training: bool = False) -> dict:
        """Return ``inputs``: ``volume`` (B 1 D H W, HU), ``region_map`` (B D H W or None), ``spacing`` (B 3, mm, host).

        On another device than the CPU also ``host_volume``, the volumes (1, D, H, W) before the copy.

        Raises:
            ValueError: volumes of different shapes, or a region id that the encoder does not have.
        """
        if training and self.by_case:
            return data
        data_samples = data["data_samples"]
        case_ids = [sample.case_id for sample in data_samples]
        # A batch that was copied ahead (DeviceCopies) is on the device already.
        host = data.get("host_inputs", data["inputs"])
        self._check_maps(host["region_map"], case_ids)
        # Samples stay on the host: objectives read texts and ids from them, and lesion maps on a coarse grid.
        data = self.cast_data({"inputs": data["inputs"]})
        hu_B1DHW = _stack(data["inputs"]["volume"], case_ids, "volume")
        inputs = {
            "volume": hu_B1DHW,
            "region_map": self._region_map(data["inputs"]["region_map"], hu_B1DHW[:, 0]),
            "spacing": torch.tensor([sample.spacing for sample in data_samples], dtype=torch.float32),
        }
        if hu_B1DHW.device.type != "cpu":
            inputs["host_volume"] = host["volume"]
        return {"inputs": inputs, "data_samples": data_samples}

    def window(self, hu_B1DHW: Tensor) -> Tensor:
        """Input channels of the encoder (B, C, D, H, W), in [0, 1]."""
        return apply_windows(hu_B1DHW.squeeze(1), self.windows)

    def encoder_regions(
        self, inputs: dict[str, Any], anatomy: Anatomy | None, training: bool
    ) -> tuple[Tensor | None, Anatomy | None]:
        """Region map and its overlap with patches, as the encoder receives them."""
        region_map_BDHW = inputs.get("region_map")
        if training and region_map_BDHW is not None and self.region_map_drop > 0:
            dropped_B = torch.rand(len(region_map_BDHW), device=region_map_BDHW.device) < self.region_map_drop
            region_map_BDHW = region_map_BDHW.masked_fill(dropped_B[:, None, None, None], UNKNOWN)
            anatomy = None if anatomy is None else anatomy.without(dropped_B)
        return region_map_BDHW, anatomy

    def _check_maps(self, region_maps: list[Tensor | None], case_ids: list[str]) -> None:
        for case_id, region_map in zip(case_ids, region_maps, strict=True):
            if region_map is not None and self.num_regions is not None:
                check_region_map(region_map, self.num_regions, f"the region map of case {case_id}")

    @staticmethod
    def _region_map(region_maps: list[Tensor | None], hu_BDHW: Tensor) -> Tensor | None:
        """Stack label maps. A case without a map is -1 (unknown) everywhere; a batch without maps is None."""
        if all(region_map is None for region_map in region_maps):
            return None
        unknown = torch.full(hu_BDHW.shape[1:], -1, dtype=torch.int16, device=hu_BDHW.device)
        return torch.stack([unknown if region_map is None else region_map.short() for region_map in region_maps])


def _stack(tensors: list[Tensor], case_ids: list[str], what: str) -> Tensor:
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        shapes_by_case = ", ".join(
            f"{name}: {tuple(tensor.shape)}" for name, tensor in zip(case_ids, tensors, strict=True)
        )
        raise ValueError(
            f"the {what}s of a batch have different shapes ({shapes_by_case}); expected one shape. "
            "Add ResampleCT(shape=...) to the pipeline, or use a batch size of 1."
        )
    return torch.stack(tensors)
