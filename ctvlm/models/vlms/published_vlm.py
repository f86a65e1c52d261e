"""A published image-text model, evaluated as published."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor, nn

from ctvlm.models.backbones.tower import Tower
from ctvlm.models.backbones.tower_canvas import to_canvas
from ctvlm.models.backbones.tower_weights import load_head, load_tower
from ctvlm.models.objectives.batch_context import BatchContext, Inputs
from ctvlm.models.objectives.text_bank import TextBank, drop_blank_steps
from ctvlm.models.vlms.published_scale import published_scale
from ctvlm.registry import MODELS, OBJECTIVES, TEXT_ENCODERS, TOWERS
from ctvlm.structures import CTDataSample, EncoderOutput
from ctvlm.utils import CTVLMError
from ctvlm.utils.pretrained_files import KEY, loads_weights, pack_files, take_packed_files
from ctvlm.utils.published_weights import read_published
from ctvlm.utils.training_data import data_record

# Objectives whose predictions need the embedding of the whole volume only.
PREDICTED = {"volume": "VolumeTextObjective", "opposite": "OppositeTextObjective"}


class WholeVolumes(BatchContext):
    """Views of a batch without patches and regions."""

    def __init__(
        self, inputs: Inputs, samples: Sequence[CTDataSample], texts: TextBank, embed: Callable[[Inputs], Tensor]
    ) -> None:
        self.inputs, self.samples, self.texts = inputs, samples, texts
        self._embed = embed

    @cached_property
    def volume_BP(self) -> Tensor:
        return self._embed(self.inputs)

    @cached_property
    def encoded(self) -> EncoderOutput:
        raise CTVLMError(
            "PublishedVLM embeds whole volumes and texts; it has no patches or regions. For these, train on its tower "
            "with the backbone PretrainedTower"
        )


@MODELS.register_module()
class PublishedVLM(BaseModel):
    """A published image-text model with its own embeddings of volumes and texts and its own logit scale.

    It is evaluated, not trained: ``predict`` adds ``pred_volume``, ``pred_impression`` and the texts of
    OppositeTextObjective, so that retrieval, zero-shot classification and opposite texts are scored. A volume is
    brought to the tower's input convention and to its size of the training (cropped around its centre, padded with
    air). The pipeline should therefore not resample or crop.

    Args:
        tower: config of a TOWERS component with its head (``out_dims``).
        text_encoder: config of a text encoder with the same width of embeddings, such as PublishedTextEncoder.
        pretrained: file of the published model; ``None``: random weights, with a warning.
        prefix: start of the names of the tower in that file.
        head_prefix: start of the names of the head.
        logit_scale: a number, or ``dict(key=..., stored=...)``: name of a weight in the file that is the logarithm of
            the scale (``stored="log"``) or its inverse (``stored="temperature"``).
        data_preprocessor: config of the data preprocessor.

    Raises:
        CheckpointError: the file cannot be read, or its weights do not match.
        CTVLMError: the tower has no head, or the embeddings have different widths.
    """

    data_preprocessor: Any
    pretrained_files: Tensor
    scale: Tensor

    def __init__(
        self,
        tower: dict,
        text_encoder: dict,
        pretrained: str | None = None,
        prefix: str = "",
        head_prefix: str = "",
        logit_scale: float | dict[str, str] = 1.0,
        data_preprocessor: dict | None = None,
    ) -> None:
        super().__init__(MODELS.build(data_preprocessor or dict(type="CTDataPreprocessor")))
        self.backbone: Tower = TOWERS.build(tower)
        self.backbone.published_head()
        self.training_data: list[dict] = []
        scale = logit_scale if isinstance(logit_scale, (int, float)) else 1.0
        if loads_weights():
            pass  # the published file may be on another machine
        elif pretrained is None:
            name = type(self.backbone).__name__
            print_log(f"model.pretrained is not set: {name} has random weights", logger="current", level=30)
        else:
            weights = read_published(pretrained)
            count = load_tower(self.backbone, weights, pretrained, prefix, "model")
            count += load_head(self.backbone, weights, pretrained, head_prefix, "model")
            if isinstance(logit_scale, dict):
                scale = published_scale(weights, pretrained, **logit_scale)
            print_log(f"{type(self.backbone).__name__}: {count} weights loaded from {pretrained}", logger="current")
            self.training_data = [data_record("unknown")]
        if pretrained is not None:
            self.register_buffer(KEY, pack_files(pretrained, {}))
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.text_encoder: Any = TEXT_ENCODERS.build(text_encoder)
        predicted = {name: OBJECTIVES.build(dict(type=kind, loss=False)) for name, kind in PREDICTED.items()}
        self.objectives = nn.ModuleDict(predicted)
        self._prediction_keys: frozenset[str] | None = None
        self.eval()

    def train(self, mode: bool = True) -> PublishedVLM:
        """The model stays in evaluation mode."""
        super().train(False)
        return self

    def logit_scale(self) -> float:
        """Factor of the cosine similarities of volumes and texts, for zero-shot classification."""
        return self.scale.item()

    def forward(self, inputs: Inputs, data_samples: Any = None, mode: str = "tensor") -> Tensor | list[CTDataSample]:
        """Embeddings (B, P) for ``tensor``, the samples with predictions for ``predict``.

        Raises:
            CTVLMError: ``loss``: the model is not trained.
        """
        if mode == "tensor":
            return self.embed_volumes(inputs)
        if mode == "predict":
            return self.predict(inputs, data_samples)
        raise CTVLMError(
            f"PublishedVLM is evaluated as published and has no {mode!r} mode: test it, or train on its tower with the "
            "backbone PretrainedTower"
        )

    @torch.no_grad()
    def embed_volumes(self, inputs: Inputs) -> Tensor:
        """Published embeddings (B, P) of volumes in HU, not normalised.

        Raises:
            CTVLMError: their width is not that of the text embeddings.
        """
        cases = zip(inputs["volume"][:, 0], inputs["spacing"], strict=True)
        canvases = (to_canvas(hu_DHW, spacing_3, self.backbone.convention, crop=True)[0] for hu_DHW, spacing_3 in cases)
        volume_BP = torch.cat([self.backbone.embed(canvas) for canvas in canvases])
        if volume_BP.shape[1] != self.text_encoder.embed_dims:
            raise CTVLMError(
                f"the embeddings of volumes have {volume_BP.shape[1]} features, those of texts "
                f"{self.text_encoder.embed_dims}; expected one width. Set out_dims of model.tower or model.text_encoder"
            )
        return volume_BP

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Published embeddings of texts (len(texts), P), not normalised."""
        return self.text_encoder(texts)

    def context(self, inputs: Inputs, data_samples: Sequence[CTDataSample] = ()) -> WholeVolumes:
        """Lazy views of a batch: its volumes and texts."""
        return WholeVolumes(inputs, data_samples, TextBank(data_samples, self.embed_texts), self.embed_volumes)

    def set_predictions(self, keys: Collection[str] | None) -> None:
        """Let ``predict`` add only these keys, such as those that the metrics read. None: all."""
        self._prediction_keys = None if keys is None else frozenset(keys)

    @torch.no_grad()
    def predict(self, inputs: Inputs, data_samples: list[CTDataSample]) -> list[CTDataSample]:
        """Add predictions to the samples, restricted by ``set_predictions``."""
        keys = self._prediction_keys
        objectives: list[Any] = list(self.objectives.values())
        wanted = [(o, o.needs if keys is None else o.needs & keys) for o in objectives]
        drop_blank_steps(data_samples)
        context = self.context(inputs, data_samples)
        for objective, part in wanted:
            if part:
                objective.request(context.texts)
        for objective, part in wanted:
            if part:
                objective.predict(context, part)
        return data_samples

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any) -> None:
        take_packed_files(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
