"""Embeddings of CTs, their regions and patches, and of texts, in one space."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from ctvlm.apis.case_reader import CaseReader, Mask, ReadCase, Volume
from ctvlm.apis.init_model import init_model
from ctvlm.models.objectives import BatchContext
from ctvlm.utils.training_data import PHANTOMS_ONLY, only_phantoms
from ctvlm.volume import CTVolume, patch_grid_affine


@dataclass(frozen=True)
class VolumeFeatures:
    """What a model sees in one CT; embeddings are normalised, tensors are on the CPU.

    Attributes:
        volume: (P).
        regions: (R, P); of use where ``region_mask`` (R) is True: the region is in the volume.
        patches: (N, P), z-major on ``grid`` (d, h, w); ``patch_mask`` (N) is False for air that was left out.
        patch_to_region: share of each patch in each region (N, R + 1), column 0 background.
        affine: 4x4, patch index (x, y, z) to the patch's centre in mm, RAS+.
        synthetic: the CT is a phantom, as ``ReadCase.synthetic``.
    """

    case_id: str
    volume: Tensor
    regions: Tensor
    region_names: list[str]
    region_mask: Tensor
    patches: Tensor
    patch_mask: Tensor
    patch_to_region: Tensor
    grid: tuple[int, int, int]
    affine: np.ndarray
    synthetic: bool = False

    @property
    def positions(self) -> np.ndarray:
        """Centres of the patches in mm (N, 3): x, y, z, RAS+."""
        zyx_N3 = np.stack(np.unravel_index(np.arange(len(self.patches)), self.grid), axis=1)
        return zyx_N3[:, ::-1] @ self.affine[:3, :3].T + self.affine[:3, 3]

    def on_grid(self, values_N: Tensor) -> CTVolume:
        """One number per patch as a map that knows where it lies; see ``ctvlm.volume.patches_to_grid``."""
        return CTVolume(values_N.reshape(self.grid).numpy(), self.affine)


@dataclass(frozen=True)
class TextSimilarity:
    """U texts against one CT.

    Attributes:
        volume, regions, patches: cosines (U), (U, R), (U, N).
        attention: of each text over the patches (U, N), rows sum to 1: the patches' cosines, sharpened as in training.
    """

    volume: Tensor
    regions: Tensor
    patches: Tensor
    attention: Tensor


class FeatureExtractor:
    """Call it with a CT file.

    ::

        extract = FeatureExtractor("configs/vit3d_cot_contrastive.py", "epoch_7.pth")
        features = extract("ct.nii.gz", mask="segmentation.nii.gz", mask_source="totalsegmentator_v2")
        print(extract.similarity(features, ["Pleural effusion on the left."]).volume)

    Args:
        model: config (path or loaded), or a model of ``init_model``.
        checkpoint, device: as ``init_model``.
        pipeline: transforms between reading and packing; None: those of the config's test data.

    Raises:
        ConfigError, CheckpointError: as ``init_model`` and CaseReader.
    """

    def __init__(
        self,
        model: str | Path | Config | nn.Module,
        checkpoint: str | Path | None = None,
        device: str | torch.device | None = None,
        pipeline: Sequence[dict | Callable] | None = None,
    ) -> None:
        self.model: Any = model if isinstance(model, nn.Module) else init_model(model, checkpoint, device)
        if not hasattr(self.model, "cfg"):
            raise ValueError("a model for FeatureExtractor carries its config: build it with ctvlm.apis.init_model")
        self.read = CaseReader(self.model.cfg, pipeline)
        self._warned = False

    def remark_on(self, case: ReadCase | VolumeFeatures) -> str:
        """Why text scores of a case mean nothing: the CT is real and the weights saw only phantoms; "" otherwise."""
        trained_on = getattr(self.model, "training_data", [])
        return PHANTOMS_ONLY if not case.synthetic and only_phantoms(trained_on) else ""

    def __call__(self, volume: Volume, mask: Mask | None = None, mask_source: str | None = None) -> VolumeFeatures:
        """Features of one CT; arguments and errors as ``CaseReader.__call__``."""
        return self.features([self.read(volume, mask, mask_source)])[0]

    def extract(
        self,
        volumes: Sequence[Volume],
        masks: Sequence[Mask | None] | None = None,
        mask_source: str | None = None,
        batch_size: int = 4,
    ) -> Iterator[VolumeFeatures]:
        """Features of many CTs, in order, read and computed as they are asked for.

        A batch ends early where the next CT has another shape on the encoder's grid.
        """
        batch: list[ReadCase] = []
        for volume, mask in zip(volumes, masks or [None] * len(volumes), strict=True):
            case = self.read(volume, mask, mask_source)
            if batch and (len(batch) == batch_size or case.shape != batch[0].shape):
                yield from self.features(batch)
                batch = []
            batch.append(case)
        if batch:
            yield from self.features(batch)

    def inputs(self, cases: Sequence[ReadCase]) -> dict[str, Tensor | None]:
        """What ``model.encode`` takes, on its device."""
        return self.model.data_preprocessor(pseudo_collate([case.packed for case in cases]))["inputs"]

    @torch.no_grad()
    def features(self, cases: Sequence[ReadCase], context: BatchContext | None = None) -> list[VolumeFeatures]:
        """Features of cases of one shape. ``context``: views of these cases, if some are computed already."""
        context = self.model.context(self.inputs(cases)) if context is None else context
        encoded, (_, region_BRP, region_mask_BR) = context.encoded, context.regions
        volume_BP, region_BRP, patch_BNP = _unit(context.volume_BP), _unit(region_BRP), _unit(context.patch_BNP)
        return [
            VolumeFeatures(
                case_id=case.case_id,
                volume=volume_BP[b],
                regions=region_BRP[b],
                region_names=self.read.scheme.names,
                region_mask=region_mask_BR[b].cpu(),
                patches=patch_BNP[b],
                patch_mask=encoded.token_mask[b].cpu(),
                patch_to_region=encoded.patch_to_region[b].float().cpu(),
                grid=tuple(encoded.grid),
                affine=patch_grid_affine(case.affine, case.shape, encoded.grid),
                synthetic=case.synthetic,
            )
            for b, case in enumerate(cases)
        ]

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Normalised embeddings (U, P) of texts, on the CPU."""
        return _unit(self.model.embed_texts(list(texts)))

    def similarity(self, features: VolumeFeatures, texts: Sequence[str]) -> TextSimilarity:
        """How well each text fits the CT as a whole, each region, and each patch.

        Warns:
            UserWarning: once, if the CT is real and the weights were trained on phantoms only.
        """
        remark = self.remark_on(features)
        if remark and not self._warned:
            self._warned = True
            warnings.warn(remark, stacklevel=2)
        text_UP = self.embed_texts(texts)
        attention_1UN = self.model.space.step_attention(
            text_UP[None], features.patches[None], features.patch_mask[None]
        )
        return TextSimilarity(
            text_UP @ features.volume, text_UP @ features.regions.T, text_UP @ features.patches.T, attention_1UN[0]
        )


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1).float().cpu()
