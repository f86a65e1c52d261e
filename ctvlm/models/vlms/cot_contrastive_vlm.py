"""Vision-language model: a 3D encoder aligned with reasoning text by a set of objectives."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor

from ctvlm.models.layers import grid_of
from ctvlm.models.objectives import Objective
from ctvlm.models.objectives.batch_context import BatchContext, Inputs
from ctvlm.models.objectives.text_bank import TextBank, drop_blank_steps
from ctvlm.models.space import SharedSpace
from ctvlm.models.vlms.build import build_objectives
from ctvlm.models.vlms.chunks import in_chunks
from ctvlm.models.vlms.encode_volumes import encode_volumes
from ctvlm.models.vlms.sentence_texts import embed_by_sentence
from ctvlm.models.vlms.tokenizers import FittedTokenizers
from ctvlm.registry import BACKBONES, HEADS, LOSSES, MODELS, TEXT_ENCODERS
from ctvlm.structures import Anatomy, CTDataSample, EncoderOutput

# Pairs or MeanTerms by name of the objective.
Features = dict[str, Any]


@MODELS.register_module()
class CoTContrastiveVLM(FittedTokenizers, BaseModel):
    """Align volumes with impressions, regions with mentions, and patches with reasoning steps.

    Args:
        backbone: config of a vision encoder that returns EncoderOutput.
        text_encoder: config of a text encoder.
        space: config of the SharedSpace; the widths of the encoders are filled in.
        losses: shorthand for the levels: ``volume``, ``region``, ``step``, ``focus``, ``order`` or ``opposite`` to the
            config of its loss. A level that is left out or None is not trained.
        objectives: name to the config of an objective, or further arguments of a level.
        multi_task: config of the weighting of the losses; None: each loss has its own ``loss_weight``.
        chunk_size: number of cases whose features are computed at a time, and again in the backward pass: gradient
            caching (Gao et al., 2021), exact, with the memory of one chunk for any batch size. None: all at once.
        by_sentence: embed texts as the sum of their sentences, see ``embed_by_sentence``.
        frozen: parts that are not trained and stay in evaluation mode, such as ``["backbone", "objectives.region"]``.
        data_preprocessor: config of the data preprocessor.

    Raises:
        ValueError: as ``build_objectives``, or an unknown part in ``frozen``.
    """

    data_preprocessor: Any

    def __init__(
        self,
        backbone: dict,
        text_encoder: dict,
        space: dict | None = None,
        losses: dict[str, dict | None] | None = None,
        objectives: dict[str, dict | None] | None = None,
        multi_task: dict | None = None,
        chunk_size: int | None = None,
        by_sentence: bool = False,
        frozen: Sequence[str] = (),
        data_preprocessor: dict | None = None,
    ) -> None:
        super().__init__(MODELS.build(data_preprocessor or dict(type="CTDataPreprocessor")))
        self.chunk_size = chunk_size
        self.by_sentence = by_sentence
        self.backbone: Any = BACKBONES.build(backbone)
        self.data_preprocessor.num_regions = self.backbone.num_regions
        self.text_encoder: Any = TEXT_ENCODERS.build(text_encoder)
        dims = dict(vision_dims=self.backbone.embed_dims, text_dims=self.text_encoder.embed_dims)
        self.space: SharedSpace = HEADS.build(space or {}, default_args=dims | dict(type="SharedSpace"))
        self.objectives = build_objectives(losses, objectives, self.backbone, self.space.shared_dims)
        self._prediction_keys: frozenset[str] | None = None
        parts = {"backbone": self.backbone, "text_encoder": self.text_encoder, "space": self.space}
        parts.update((f"objectives.{name}", objective) for name, objective in self._all().items())
        if unknown := set(frozen) - set(parts):
            raise ValueError(f"Unknown parts {sorted(unknown)} in the model's frozen: expected some of {list(parts)}.")
        self._frozen = [parts[name].requires_grad_(False) for name in frozen]
        names = [f"loss_{name}" for name in self._trained()]
        self.multi_task: Any = LOSSES.build(multi_task, default_args=dict(names=names)) if multi_task else None

    @property
    def chunk_size(self) -> int | None:
        """Cases per chunk of gradient caching; None: no chunks."""
        return self._chunk_size

    @chunk_size.setter
    def chunk_size(self, value: int | None) -> None:
        self._chunk_size = value
        # With chunks, the batch stays on the host and each chunk is moved to the device when it is needed.
        self.data_preprocessor.by_case = value is not None

    @property
    def compares_cases(self) -> bool:
        """Whether the loss of a case depends on the other cases of the batch."""
        return any(objective.compares_cases for objective in self._trained().values())

    def logit_scale(self) -> float:
        """Factor of the cosine similarities of volumes and texts, for zero-shot classification."""
        return getattr(self.objectives["volume"], "logit_scale", lambda: 1.0)()

    def train(self, mode: bool = True) -> CoTContrastiveVLM:
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    def forward(
        self, inputs: Inputs, data_samples: Any = None, mode: str = "tensor"
    ) -> EncoderOutput | dict[str, Tensor] | list[CTDataSample]:
        """Run the model in one of mmengine's three modes.

        Args:
            inputs: as the data preprocessor returns them.
            data_samples: texts of the cases, for ``loss`` and ``predict``.
            mode: ``tensor`` returns the EncoderOutput, ``loss`` a dict of losses, ``predict`` the samples with
                predictions.
        """
        if mode == "tensor":
            return self.encode(inputs)
        if mode == "loss":
            return self.loss(inputs, data_samples)
        if mode == "predict":
            return self.predict(inputs, data_samples)
        raise ValueError(f"Unknown mode {mode!r}: expected 'tensor', 'loss' or 'predict'.")

    def encode(self, inputs: Inputs, anatomy: Anatomy | None = None, visible_BN: Tensor | None = None) -> EncoderOutput:
        """Features of volumes in HU. ``anatomy``: known overlap with region maps; ``visible_BN``: patches to encode."""
        return encode_volumes(self.backbone, self.data_preprocessor, inputs, anatomy, visible_BN, self.training)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Texts in the shared space (len(texts), P), not normalised."""
        return embed_by_sentence(texts, self._embed_whole) if self.by_sentence else self._embed_whole(texts)

    def _embed_whole(self, texts: Sequence[str]) -> Tensor:
        return self.space.embed_texts(self.text_encoder(texts))

    def context(self, inputs: Inputs, data_samples: Sequence[CTDataSample] = ()) -> BatchContext:
        """Lazy views of a batch."""
        grid = grid_of(tuple(inputs["volume"].shape[2:]), self.backbone.patch_size)
        texts = TextBank(data_samples, self.embed_texts)
        return BatchContext(inputs, data_samples, self.encode, grid, self.backbone.num_regions, self.space, texts)

    def loss(self, inputs: Inputs, data_samples: list[CTDataSample]) -> dict[str, Tensor]:
        """One loss per trained objective, over the cases of all ranks."""
        size = self.chunk_size or len(data_samples)
        return self.losses_of(in_chunks(self._features_of, inputs, data_samples, size))

    def _features_of(self, inputs: dict, data_samples: list[CTDataSample]) -> Features:
        """``features`` of cases that may still be lists on the host (see ``chunk_size``)."""
        if isinstance(inputs["volume"], list):
            return self.features(**self.data_preprocessor(dict(inputs=inputs, data_samples=data_samples)))
        return self.features(inputs, data_samples)

    def features(self, inputs: Inputs, data_samples: list[CTDataSample]) -> Features:
        """What the losses read, by objective. Features of a case do not depend on other cases."""
        if not (trained := self._trained()):
            raise ValueError("The model has no loss to train: configure model.losses or model.objectives.")
        context = self._requested(inputs, data_samples, list(trained.values()))
        if any(objective.reads_all_patches for objective in trained.values()):
            _ = context.encoded  # before the texts, so that random numbers do not depend on the objectives
        return {name: objective.features(context) for name, objective in trained.items()}

    def losses_of(self, features: Features) -> dict[str, Tensor]:
        """Losses over the features of all cases of all ranks, in full precision."""
        with torch.autocast(next(iter(features.values())).device.type, enabled=False):
            losses = {f"loss_{n}": self._all()[n].loss(found.full_precision()) for n, found in features.items()}
            return losses if self.multi_task is None else self.multi_task(losses)

    def set_predictions(self, keys: Collection[str] | None) -> None:
        """Let ``predict`` add only these keys, such as those that the metrics read. None: all."""
        self._prediction_keys = None if keys is None else frozenset(keys)

    @torch.no_grad()
    def predict(self, inputs: Inputs, data_samples: list[CTDataSample]) -> list[CTDataSample]:
        """Add predictions to the samples: the ``needs`` of each objective, restricted by ``set_predictions``."""
        keys = self._prediction_keys
        wanted = [(o, o.needs if keys is None else o.needs & keys) for o in self._all().values()]
        context = self._requested(inputs, data_samples, [objective for objective, part in wanted if part])
        for objective, part in wanted:
            if part:
                objective.predict(context, part)
        return data_samples

    def _requested(self, inputs: Inputs, samples: list[CTDataSample], objectives: Sequence[Objective]) -> BatchContext:
        """Views of a batch whose texts the objectives have requested. Steps without text are removed."""
        drop_blank_steps(samples)
        context = self.context(inputs, samples)
        for objective in objectives:
            objective.request(context.texts)
        return context

    def _all(self) -> dict[str, Objective]:
        return dict(self.objectives.items())  # type: ignore[arg-type]

    def _trained(self) -> dict[str, Objective]:
        return {name: one for name, one in self._all().items() if one.is_trained and one not in self._frozen}
