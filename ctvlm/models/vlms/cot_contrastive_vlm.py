"""The vision-language model: a 3D encoder aligned with reasoning text at three levels."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ctvlm.models.losses.functional import step_attention
from ctvlm.models.losses.reduce import global_mean
from ctvlm.models.region_encoders.overlap import UNKNOWN, patch_overlap
from ctvlm.models.vlms.case_features import Features, device_of, in_full_precision, join_features
from ctvlm.models.vlms.step_targets import step_occupancy
from ctvlm.models.vlms.text_batch import RegionMentions, TextBatch, drop_blank_steps
from ctvlm.registry import BACKBONES, HEADS, LOSSES, MODELS, NECKS, TEXT_ENCODERS
from ctvlm.structures import Anatomy, CTDataSample, EncoderOutput, Pairs

LEVELS = ("volume", "region", "step", "focus", "order")


@MODELS.register_module()
class CoTContrastiveVLM(BaseModel):
    """Align volume with impression, regions with mentions, patches with reasoning steps.

    Args:
        backbone: config of a vision encoder that returns EncoderOutput.
        text_encoder: config of a text encoder.
        losses: level to the config of its loss; a level left out is not trained. ``volume``: volume against
            impression; ``region``: regions against mentions; ``step``: patches against steps; ``focus``: attention
            of steps against the place they speak of; ``order``: which of two steps comes first.
        auxiliary: name to the config of a head with ``terms(encoded, anatomy, inputs, data_samples)``, the sum and
            count (2) of a loss that is a mean over parts of cases; a head with ``predict`` adds to predictions.
        multi_task: config of what weighs the losses against one another; None: their own ``loss_weight``.
        embed_dims: width P of the shared space.
        step_scale: inverse temperature of the attention of a step over patches.
        step_place: hold a step's text against the patches of its lesion or regions where a map shows them, and against
            those that it attends to elsewhere. False: always the latter, by which a text can pick patches that resemble
            it, and little is learned of what the right ones show.
        regions_in_volume: add to the volume's embedding those of its regions, weighted by a learned score: what the
            regions have learned of the text serves the impression at once.
        region_map_drop: probability, in training, that the encoder does not see a case's region map.
        chunk_size: compute the features of so many cases at a time, and again in the backward pass: gradient caching
            (Gao et al., 2021), exact, with the memory of one chunk whatever the batch. None: all at once.
        global_pooling, region_pooling: configs of the necks that pool patches.
        global_projection, region_projection, step_projection, text_projection: configs of the heads into
            the shared space; their widths are filled in.
        frozen: names of parts that learn nothing and stay in evaluation mode, say ``["backbone"]``.
        shared_projection: regions and patches go through the volume's projection, so that a model trained on volumes
            alone can be asked about parts of them.
        data_preprocessor: config of the data preprocessor.

    Raises:
        ValueError: an unknown level in ``losses``, or an unknown part in ``frozen``.
    """

    def __init__(
        self,
        backbone: dict,
        text_encoder: dict,
        losses: dict[str, dict | None],
        auxiliary: dict[str, dict | None] | None = None,
        multi_task: dict | None = None,
        embed_dims: int = 256,
        step_scale: float = 10.0,
        step_place: bool = True,
        regions_in_volume: bool = False,
        region_map_drop: float = 0.0,
        chunk_size: int | None = None,
        global_pooling: dict | None = None,
        region_pooling: dict | None = None,
        global_projection: dict | None = None,
        region_projection: dict | None = None,
        step_projection: dict | None = None,
        text_projection: dict | None = None,
        shared_projection: bool = False,
        frozen: Sequence[str] = (),
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ):
        # Built by our own registry, so that the model also builds where no default scope is set.
        super().__init__(MODELS.build(data_preprocessor or dict(type="CTDataPreprocessor")), init_cfg)
        unknown = set(losses) - set(LEVELS)
        if unknown:
            raise ValueError(f"Unknown loss levels {sorted(unknown)} in the model config: expected some of {LEVELS}.")
        self.step_scale = step_scale
        self.step_place = step_place
        self.region_map_drop = region_map_drop
        self.chunk_size = chunk_size
        # A large batch need not be on the device as a whole.
        self.data_preprocessor.by_case = chunk_size is not None
        self.backbone = BACKBONES.build(backbone)
        self.text_encoder = TEXT_ENCODERS.build(text_encoder)
        vision = dict(in_dims=self.backbone.embed_dims)
        text = dict(in_dims=self.text_encoder.embed_dims)
        self.global_pooling = NECKS.build(global_pooling or dict(type="VolumePooling"), default_args=vision)
        self.region_pooling = NECKS.build(region_pooling or dict(type="RegionPooling"), default_args=vision)
        shared = dict(out_dims=embed_dims)
        self.global_projection = HEADS.build(
            global_projection or dict(type="VolumeProjection"), default_args=vision | shared
        )
        if shared_projection:
            self.region_projection = self.step_projection = self.global_projection
        else:
            parts = (region_projection or dict(type="RegionProjection"), step_projection or dict(type="StepProjection"))
            self.region_projection, self.step_projection = (
                HEADS.build(part, default_args=vision | shared) for part in parts
            )
        self.text_projection = HEADS.build(text_projection or dict(type="TextProjection"), default_args=text | shared)
        self.region_score = nn.Linear(self.backbone.embed_dims, 1) if regions_in_volume else None
        width = dict(order=dict(embed_dims=embed_dims))
        built = {level: LOSSES.build(cfg, default_args=width.get(level)) for level, cfg in losses.items() if cfg}
        self.losses = nn.ModuleDict(built)
        heads = {name: cfg for name, cfg in (auxiliary or {}).items() if cfg}
        self.auxiliary = nn.ModuleDict({name: HEADS.build(cfg, default_args=vision) for name, cfg in heads.items()})
        names = [_logged(name) for name in (*self.losses, *self.auxiliary)]
        self.multi_task = LOSSES.build(multi_task, default_args=dict(names=names)) if multi_task else None
        parts = dict(self.named_children())
        if unknown := set(frozen) - set(parts):
            raise ValueError(f"Unknown parts {sorted(unknown)} in the model's frozen: expected some of {list(parts)}.")
        self._frozen = [parts[name].requires_grad_(False) for name in frozen]

    def train(self, mode: bool = True) -> CoTContrastiveVLM:
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    # What FitTokenizerHook asks of a model.
    def needs_tokenizer(self) -> bool:
        return any(part.needs_tokenizer for part in self._tokenizing().values())

    def fit_tokenizer(self, texts: Sequence[str]) -> None:
        for part in self._tokenizing().values():
            if part.needs_tokenizer:
                part.fit_tokenizer(texts)

    def tokenizer_state(self) -> str:
        return json.dumps({name: part.tokenizer_state() for name, part in self._tokenizing().items()})

    def load_tokenizer_state(self, state: str) -> None:
        for name, part_state in json.loads(state).items():
            self._tokenizing()[name].load_tokenizer_state(part_state)

    def _tokenizing(self) -> dict[str, nn.Module]:
        """The parts whose tokenizer is fitted on the training texts."""
        parts = {"text_encoder": self.text_encoder, **dict(self.auxiliary.items())}
        return {name: part for name, part in parts.items() if hasattr(part, "fit_tokenizer")}

    def forward(
        self, inputs: dict[str, Tensor | None], data_samples: list[CTDataSample] | None = None, mode: str = "tensor"
    ) -> EncoderOutput | dict[str, Tensor] | list[CTDataSample]:
        """Run the model in one of mmengine's three modes.

        Args:
            inputs: ``volume`` (B 1 D H W, HU), ``region_map`` (B D H W or None), ``spacing`` (B 3, mm).
            data_samples: texts of the cases, for ``loss`` and ``predict``.
            mode: ``tensor`` gives the EncoderOutput, ``loss`` a dict of losses, ``predict`` the samples with
                embeddings in them.
        """
        if mode == "tensor":
            return self.encode(inputs)
        if mode == "loss":
            return self.loss(inputs, data_samples)
        if mode == "predict":
            return self.predict(inputs, data_samples)
        raise ValueError(f"Unknown mode {mode!r}: expected 'tensor', 'loss' or 'predict'.")

    def encode(self, inputs: dict[str, Tensor | None]) -> EncoderOutput:
        """Patch and region features of volumes in HU."""
        region_map_BDHW = inputs.get("region_map")
        if self.training and region_map_BDHW is not None and self.region_map_drop > 0:
            dropped_B = torch.rand(len(region_map_BDHW), device=region_map_BDHW.device) < self.region_map_drop
            region_map_BDHW = region_map_BDHW.masked_fill(dropped_B[:, None, None, None], UNKNOWN)
        volume_BCDHW = self.data_preprocessor.window(inputs["volume"])
        return self.backbone(volume_BCDHW, region_map_BDHW, inputs.get("spacing"))

    def anatomy(self, inputs: dict[str, Tensor | None], encoded: EncoderOutput) -> Anatomy | None:
        """Where the regions lie by the cases' own maps; None where no case has one."""
        region_map_BDHW = inputs.get("region_map")
        if region_map_BDHW is None:
            return None
        return Anatomy(*patch_overlap(region_map_BDHW, encoded.grid, self.backbone.num_regions))

    def embed_volume(self, encoded: EncoderOutput) -> Tensor:
        """Volumes in the shared space (B, P), not normalised."""
        image_BP = self.global_projection(self.global_pooling(encoded))
        if self.region_score is None:
            return image_BP
        region_BRE, mask_BR = self.region_pooling(encoded)
        region_BRP = F.normalize(self.region_projection(region_BRE), dim=-1)
        # A constant rival with score 0 lets a volume whose regions say nothing rest on its patches alone.
        score_BR = self.region_score(region_BRE)[..., 0].masked_fill(~mask_BR, float("-inf"))
        share_BR = F.pad(score_BR, (0, 1)).softmax(dim=1)[:, :-1]
        return image_BP + (share_BR[:, None] @ region_BRP)[:, 0]

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Texts in the shared space (len(texts), P), not normalised."""
        return self.text_projection(self.text_encoder(texts))

    def loss(self, inputs: dict[str, Tensor | None], data_samples: list[CTDataSample]) -> dict[str, Tensor]:
        """One loss per configured level and auxiliary head."""
        size = self.chunk_size or len(data_samples)
        if size >= len(data_samples):
            return self.losses_of(self._features_of(inputs, data_samples))
        chunks = []
        for start in range(0, len(data_samples), size):
            part = slice(start, start + size)
            cases = {name: None if value is None else value[part] for name, value in inputs.items()}
            # Nothing but the features of a chunk is kept; the backward pass computes the rest again.
            chunks.append(checkpoint(self._features_of, cases, data_samples[part], use_reentrant=False))
        return self.losses_of(join_features(chunks))

    def _features_of(self, inputs: dict, data_samples: list[CTDataSample]) -> Features:
        """``features`` of cases that the data preprocessor may have left apart, on the host (``by_case``)."""
        if isinstance(inputs["volume"], list):
            return self.features(**self.data_preprocessor(dict(inputs=inputs, data_samples=data_samples)))
        return self.features(inputs, data_samples)

    def features(self, inputs: dict[str, Tensor | None], data_samples: list[CTDataSample]) -> Features:
        """What the losses compare, per level and auxiliary head: pairs, or the sum and count (2) of a mean.

        Nothing in it depends on the other cases of a batch, so parts of a batch can be computed apart.
        """
        drop_blank_steps(data_samples)
        encoded = self.encode(inputs)
        anatomy = self.anatomy(inputs, encoded)
        features: Features = {}
        if self.losses:
            texts = TextBatch.from_samples(data_samples)
            text_UP = self.embed_texts(texts.texts)
            if "volume" in self.losses:
                # A case without an impression is not a pair.
                cases_M, texts_M, ids_M = texts.impression_pairs(text_UP.device)
                features["volume"] = Pairs(self.embed_volume(encoded)[cases_M], text_UP[texts_M], ids_M)
            if "region" in self.losses:
                features["region"] = self._region_pairs(encoded, data_samples, texts, text_UP)
            if {"step", "focus", "order"} & set(self.losses):
                features |= self._step_features(encoded, anatomy, data_samples, texts, text_UP)
        for name, head in self.auxiliary.items():
            features[name] = head.terms(encoded, anatomy, inputs, data_samples)
        return features

    def losses_of(self, features: Features) -> dict[str, Tensor]:
        """Losses over the features of all cases of all ranks, in full precision."""
        losses = {}
        with torch.autocast(device_of(features).type, enabled=False):
            for name, found in in_full_precision(features).items():
                module = self.losses[name] if name in self.losses else self.auxiliary[name]
                if isinstance(found, Pairs):
                    regions = () if found.region_ids_M is None else (found.region_ids_M,)
                    loss = module(found.visual_MP, found.text_MP, found.text_ids_M, *regions)
                else:
                    loss = module.loss_weight * global_mean(found)
                losses[_logged(name)] = loss
            return losses if self.multi_task is None else self.multi_task(losses)

    def _region_pairs(
        self, encoded: EncoderOutput, data_samples: list[CTDataSample], texts: TextBatch, text_UP: Tensor
    ) -> Pairs:
        region_BRE, region_mask_BR = self.region_pooling(encoded)
        mentions = RegionMentions.from_samples(data_samples, texts, region_mask_BR)
        region_BRP = self.region_projection(region_BRE)
        text_MP = mentions.mean_text(F.normalize(text_UP, dim=-1))
        return Pairs(region_BRP[mentions.cases, mentions.regions - 1], text_MP, mentions.text_ids, mentions.regions)

    def _step_features(
        self,
        encoded: EncoderOutput,
        anatomy: Anatomy | None,
        data_samples: list[CTDataSample],
        texts: TextBatch,
        text_UP: Tensor,
    ) -> Features:
        index_BS, mask_BS, ids_BS = texts.padded_steps(text_UP.device)
        steps_BSP, patches_BNP = text_UP[index_BS], self.step_projection(encoded.tokens)
        attention_BSN = step_attention(steps_BSP, patches_BNP, self.step_scale, encoded.token_mask)
        place_BSN = step_occupancy(encoded, anatomy, data_samples, index_BS.shape[1])
        weight_BSN = self._where_to_pool(attention_BSN, place_BSN)
        normal_BNP = F.normalize(patches_BNP, dim=-1)
        pooled_BSP = weight_BSN.to(normal_BNP.dtype) @ normal_BNP
        features: Features = {}
        if "step" in self.losses:
            features["step"] = Pairs(pooled_BSP[mask_BS], steps_BSP[mask_BS], ids_BS[mask_BS])
        if "focus" in self.losses:
            features["focus"] = self.losses["focus"].terms(attention_BSN, place_BSN)
        if "order" in self.losses:
            features["order"] = self.losses["order"].terms(pooled_BSP, mask_BS)
        return features

    def _where_to_pool(self, attention_BSN: Tensor, place_BSN: Tensor) -> Tensor:
        """Weights of the patches that a step is held against: its place where that is known, else its attention."""
        if not self.step_place:
            return attention_BSN
        return torch.where(place_BSN.sum(dim=-1, keepdim=True) > 0, place_BSN.to(attention_BSN), attention_BSN)

    @torch.no_grad()
    def predict(self, inputs: dict[str, Tensor | None], data_samples: list[CTDataSample]) -> list[CTDataSample]:
        """Add what metrics read to each sample.

        Normalised embeddings: ``pred_volume`` (P), ``pred_regions`` (R, P) with ``pred_region_mask`` (R),
        ``pred_impression`` (P; None without an impression), ``pred_steps`` (S, P; steps without text are removed),
        ``pred_patches`` (N, P; half precision) as steps
        see them. Attention of the steps over patches: ``pred_step_attention`` (S, N; inverse temperature
        ``pred_step_scale``) on ``pred_grid`` (d, h, w), with ``pred_token_mask`` (N). The anatomy it is held against,
        where the case has a region map: ``patch_occupancy`` (N, R + 1). Auxiliary heads add their own.
        """
        drop_blank_steps(data_samples)
        encoded = self.encode(inputs)
        anatomy = self.anatomy(inputs, encoded)
        texts = TextBatch.from_samples(data_samples)
        text_UP = F.normalize(self.embed_texts(texts.texts), dim=-1).float().cpu()
        image_BP = F.normalize(self.embed_volume(encoded), dim=-1).float().cpu()
        region_BRE, region_mask_BR = self.region_pooling(encoded)
        region_BRP = F.normalize(self.region_projection(region_BRE), dim=-1).float().cpu()
        index_BS, _, _ = texts.padded_steps(encoded.tokens.device)
        patches_BNP = self.step_projection(encoded.tokens)
        attention_BSN = step_attention(
            text_UP.to(patches_BNP)[index_BS], patches_BNP, self.step_scale, encoded.token_mask
        ).float()
        patches_BNP = F.normalize(patches_BNP, dim=-1).half().cpu()
        for b, sample in enumerate(data_samples):
            sample.pred_step_attention = attention_BSN[b, : len(sample.steps)].cpu()
            sample.pred_patches, sample.pred_step_scale = patches_BNP[b], self.step_scale
            sample.pred_grid = encoded.grid
            sample.pred_token_mask = encoded.token_mask[b].cpu()
            if anatomy is not None and bool(anatomy.known_BN[b].any()):
                sample.patch_occupancy = anatomy.shares_BNR1[b].float().cpu()
            sample.pred_volume = image_BP[b]
            sample.pred_regions = region_BRP[b]
            sample.pred_region_mask = region_mask_BR[b].cpu()
            impression = texts.impressions[b]
            sample.pred_impression = None if impression is None else text_UP[impression]
            sample.pred_steps = text_UP[texts.steps[b]]
        for head in self.auxiliary.values():
            if hasattr(head, "predict"):
                head.predict(encoded, inputs, data_samples)
        return data_samples


def _logged(name: str) -> str:
    """What the loss of a level or head is called in logs."""
    return f"loss_{name}"
