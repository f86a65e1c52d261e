"""Extract embeddings of CTs, regions, patches and texts in the shared space."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ctvlm.apis.case_input import Inputs, Mask, Volume
from ctvlm.apis.case_reader import ReadCase
from ctvlm.apis.feature_files import FORMATS, WRITERS, NpzWriter, pyarrow_modules, write_table
from ctvlm.apis.inferencer import Inferencer
from ctvlm.apis.save_cases import RunOptions, SaveSummary, save_cases
from ctvlm.models.objectives import BatchContext
from ctvlm.utils import check_choice
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

    def to_dict(self) -> dict[str, Any]:
        """Embeddings of the volume and of the regions that are in it, in plain containers for JSON."""
        present = [i for i, there in enumerate(self.region_mask.tolist()) if there]
        return dict(
            case_id=self.case_id,
            volume=self.volume.tolist(),
            regions={self.region_names[i]: self.regions[i].tolist() for i in present},
        )

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


class FeatureExtractor(Inferencer[VolumeFeatures]):
    """Extract features of CTs and compare them with texts.

    Example::

        extract = FeatureExtractor("configs/vit3d_cot_contrastive.py", "epoch_8.pth")
        features = extract("ct.nii.gz", mask="segmentation.nii.gz", mask_source="totalsegmentator_v2")
        print(extract.similarity(features, ["Pleural effusion on the left."]).volume)

    Arguments and errors are those of Inferencer.
    """

    task = "embedding"
    _warned = False

    def predict(self, cases: Sequence[ReadCase], context: BatchContext | None = None) -> list[VolumeFeatures]:
        return self.features(cases, context)

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
        paired = [None] * len(volumes) if masks is None else masks
        found = self.find(volumes, paired, mask_source)
        for _, features in self.stream(found.cases, batch_size, reraise=True):
            yield cast(VolumeFeatures, features)

    def save(
        self,
        inputs: Inputs,
        out: str | Path,
        mask: Mask | Sequence[Mask | None] | None = None,
        mask_source: str | None = None,
        format: str | None = None,
        patches: bool = False,
        run: RunOptions | None = None,
        **options: Any,
    ) -> SaveSummary:
        """Write the features of all cases of an input. An interrupted run resumes when it is started again.

        Args:
            inputs, mask, mask_source, options: see ``find_cases``.
            out: folder, or with ``parquet`` the file of the table; then a folder next to it (``.parts``) has one file
                per case, from which a later run resumes.
            format: ``npz`` or ``safetensors`` (one file per case, see FeatureWriter), or ``parquet`` (one table, see
                ``write_table``). Default: ``parquet`` if ``out`` ends so, else ``npz``.
            patches: also write the embeddings of the patches, not with ``parquet``.
            run: batch size, processes, shard and progress, see RunOptions.

        Raises:
            CTVLMError: as ``save_cases`` and ``write_table``; ValueError: unknown format.
        """
        out = Path(out)
        format = format or ("parquet" if out.suffix == ".parquet" else "npz")
        check_choice("FeatureExtractor.save", "format", format, FORMATS)
        found = self.find(inputs, mask, mask_source, **options)
        if format != "parquet":
            return save_cases(self, found, WRITERS[format](str(out), patches), run)
        if patches:
            raise ValueError("FeatureExtractor.save: found patches=True with format='parquet'; expected npz")
        pyarrow_modules()
        writer = NpzWriter(f"{out}.parts")
        summary = save_cases(self, found, writer, run)
        summary.out = str(out)
        if summary.current and not summary.unfinished:
            write_table(summary.current, out)
        else:
            out.unlink(missing_ok=True)  # the table of an earlier run
        return summary

    @torch.no_grad()
    def features(self, cases: Sequence[ReadCase], context: BatchContext | None = None) -> list[VolumeFeatures]:
        """``predict``: features of cases with equal input shape."""
        context = self.context(cases) if context is None else context
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
                grid=encoded.grid,
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
