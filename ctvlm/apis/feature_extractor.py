"""Extract embeddings of CTs, regions, patches and texts in the shared space."""

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
    """Embeddings of one CT. Embeddings are L2-normalised; tensors are on the CPU.

    Attributes:
        volume: (P).
        regions: (R, P).
        region_mask: (R), True if the region is in the volume; otherwise its embedding has no meaning.
        patches: (N, P), z-major on ``grid``.
        patch_mask: (N), False for patches of air that the encoder has dropped.
        patch_to_region: share of each patch in each region (N, R + 1); column 0 is background.
        grid: shape of the patch grid (d, h, w).
        affine: 4x4, from patch index (x, y, z) to the centre of the patch in mm, RAS+.
        synthetic: whether the CT is a phantom, see ``ReadCase.synthetic``.
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
        """Centres of the patches in mm, RAS+ (N, 3): x, y, z."""
        zyx_N3 = np.stack(np.unravel_index(np.arange(len(self.patches)), self.grid), axis=1)
        return zyx_N3[:, ::-1] @ self.affine[:3, :3].T + self.affine[:3, 3]

    def on_grid(self, values_N: Tensor) -> CTVolume:
        """Convert one value per patch to a volume on the patch grid; see ``ctvlm.volume.patches_to_grid``."""
        return CTVolume(values_N.reshape(self.grid).numpy(), self.affine)


@dataclass(frozen=True)
class TextSimilarity:
    """Similarities of U texts to one CT.

    Attributes:
        volume: cosine similarities to the volume (U).
        regions: cosine similarities to the regions (U, R).
        patches: cosine similarities to the patches (U, N).
        attention: attention of each text over the patches (U, N), computed as in training; rows sum to 1.
    """

    volume: Tensor
    regions: Tensor
    patches: Tensor
    attention: Tensor


class FeatureExtractor:
    """Extract features of CTs and compare them with texts.

    Example::

        extract = FeatureExtractor("configs/vit3d_cot_contrastive.py", "epoch_7.pth")
        features = extract("ct.nii.gz", mask="segmentation.nii.gz", mask_source="totalsegmentator_v2")
        print(extract.similarity(features, ["Pleural effusion on the left."]).volume)

    Args:
        model: config (path or loaded), or a model of ``init_model``.
        checkpoint: see ``init_model``.
        device: see ``init_model``.
        pipeline: transforms between reading and packing; None uses those of the config's test data.

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
            raise ValueError(f"{type(self.model).__name__} has no attribute cfg: use ctvlm.apis.init_model")
        self.read = CaseReader(self.model.cfg, pipeline)
        self._warned = False

    def remark_on(self, case: ReadCase | VolumeFeatures) -> str:
        """Warning if the CT is real and the weights were trained on phantoms only; otherwise an empty string."""
        trained_on = getattr(self.model, "training_data", [])
        return PHANTOMS_ONLY if not case.synthetic and only_phantoms(trained_on) else ""

    def __call__(self, volume: Volume, mask: Mask | None = None, mask_source: str | None = None) -> VolumeFeatures:
        """Features of one CT. Arguments and errors are those of ``CaseReader.__call__``."""
        return self.features([self.read(volume, mask, mask_source)])[0]

    def extract(
        self,
        volumes: Sequence[Volume],
        masks: Sequence[Mask | None] | None = None,
        mask_source: str | None = None,
        batch_size: int = 4,
    ) -> Iterator[VolumeFeatures]:
        """Yield features of many CTs, in order.

        All CTs of a batch have the same input shape, so a batch may be smaller than ``batch_size``.
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
        """Collate cases to the input of ``model.encode``, on the device of the model."""
        return self.model.data_preprocessor(pseudo_collate([case.packed for case in cases]))["inputs"]

    @torch.no_grad()
    def features(self, cases: Sequence[ReadCase], context: BatchContext | None = None) -> list[VolumeFeatures]:
        """Features of cases with equal shape. ``context``: views of these cases, if they have already been created."""
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
        """Normalised embeddings of texts (U, P), on the CPU."""
        return _unit(self.model.embed_texts(list(texts)))

    def similarity(self, features: VolumeFeatures, texts: Sequence[str]) -> TextSimilarity:
        """Compare texts with the volume, its regions and its patches.

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
