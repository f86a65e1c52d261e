"""The vision-language model: a 3D encoder aligned with reasoning text at three levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor

from ctvlm.models.losses.functional import step_attention
from ctvlm.models.vlms.step_targets import step_occupancy
from ctvlm.models.vlms.text_batch import RegionMentions, TextBatch
from ctvlm.registry import BACKBONES, HEADS, LOSSES, MODELS, NECKS, TEXT_ENCODERS
from ctvlm.structures import CTDataSample, EncoderOutput

LEVELS = ("volume", "region", "step", "focus")


@MODELS.register_module()
class CoTContrastiveVLM(BaseModel):
    """Align volume with impression, regions with mentions, patches with reasoning steps.

    Args:
        backbone: config of a vision encoder that returns EncoderOutput.
        text_encoder: config of a text encoder.
        losses: level to the config of its loss; a level left out is not trained. ``volume``: volume against
            impression; ``region``: regions against mentions; ``step``: patches against steps; ``focus``: attention
            of steps against the place they speak of.
        embed_dims: width P of the shared space.
        step_scale: inverse temperature of the attention of a step over patches.
        regions_in_volume: add to the volume's embedding those of its regions, weighted by a learned score: what the
            regions have learned of the text serves the impression at once.
        global_pooling, region_pooling: configs of the necks that pool patches.
        global_projection, region_projection, step_projection, text_projection: configs of the heads into
            the shared space; their widths are filled in.
        data_preprocessor: config of the data preprocessor.
    """

    def __init__(
        self,
        backbone: dict,
        text_encoder: dict,
        losses: dict[str, dict | None],
        embed_dims: int = 256,
        step_scale: float = 10.0,
        regions_in_volume: bool = False,
        global_pooling: dict | None = None,
        region_pooling: dict | None = None,
        global_projection: dict | None = None,
        region_projection: dict | None = None,
        step_projection: dict | None = None,
        text_projection: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ):
        # Built by our own registry, so that the model also builds where no default scope is set.
        super().__init__(MODELS.build(data_preprocessor or dict(type="CTDataPreprocessor")), init_cfg)
        unknown = set(losses) - set(LEVELS)
        if unknown:
            raise ValueError(f"Unknown loss levels {sorted(unknown)} in the model config: expected some of {LEVELS}.")
        self.step_scale = step_scale
        self.backbone = BACKBONES.build(backbone)
        self.text_encoder = TEXT_ENCODERS.build(text_encoder)
        vision = dict(in_dims=self.backbone.embed_dims)
        text = dict(in_dims=self.text_encoder.embed_dims)
        self.global_pooling = NECKS.build(global_pooling or dict(type="GlobalPooling"), default_args=vision)
        self.region_pooling = NECKS.build(region_pooling or dict(type="RegionPooling"), default_args=vision)
        shared = dict(out_dims=embed_dims)
        self.global_projection = HEADS.build(
            global_projection or dict(type="GlobalProjection"), default_args=vision | shared
        )
        self.region_projection = HEADS.build(
            region_projection or dict(type="RegionProjection"), default_args=vision | shared
        )
        self.step_projection = HEADS.build(step_projection or dict(type="StepProjection"), default_args=vision | shared)
        self.text_projection = HEADS.build(text_projection or dict(type="TextProjection"), default_args=text | shared)
        self.region_score = torch.nn.Linear(self.backbone.embed_dims, 1) if regions_in_volume else None
        self.losses = torch.nn.ModuleDict({level: LOSSES.build(cfg) for level, cfg in losses.items() if cfg})

    # What FitTokenizerHook asks of a model.
    def needs_tokenizer(self) -> bool:
        return getattr(self.text_encoder, "needs_tokenizer", False)

    def fit_tokenizer(self, texts: Sequence[str]) -> None:
        self.text_encoder.fit_tokenizer(texts)

    def tokenizer_state(self) -> str:
        return self.text_encoder.tokenizer_state()

    def load_tokenizer_state(self, state: str) -> None:
        self.text_encoder.load_tokenizer_state(state)

    def forward(
        self, inputs: dict[str, Tensor | None], data_samples: list[CTDataSample] | None = None, mode: str = "tensor"
    ) -> EncoderOutput | dict[str, Tensor] | list[CTDataSample]:
        """Run the model in one of mmengine's three modes.

        Args:
            inputs: ``volume`` (B C D H W), ``region_map`` (B D H W or None), ``spacing`` (B 3, mm).
            data_samples: texts of the cases, for ``loss`` and ``predict``.
            mode: ``tensor`` gives the EncoderOutput, ``loss`` a dict of losses, ``predict`` the samples with
                embeddings in them.
        """
        encoded = self.backbone(inputs["volume"], inputs.get("region_map"), inputs.get("spacing"))
        if mode == "tensor":
            return encoded
        if mode == "loss":
            return self.loss(encoded, data_samples)
        if mode == "predict":
            return self.predict(encoded, data_samples)
        raise ValueError(f"Unknown mode {mode!r}: expected 'tensor', 'loss' or 'predict'.")

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

    def loss(self, encoded: EncoderOutput, data_samples: list[CTDataSample]) -> dict[str, Tensor]:
        """One loss per configured level."""
        texts = TextBatch.from_samples(data_samples)
        text_UP = self.embed_texts(texts.texts)
        losses = {}
        if "volume" in self.losses:
            image_BP = self.embed_volume(encoded)
            ids_B = texts.impression_ids(text_UP.device)
            losses["loss_global"] = self.losses["volume"](image_BP, text_UP[texts.impressions], ids_B)
        if "region" in self.losses:
            losses["loss_region"] = self._region_loss(encoded, data_samples, texts, text_UP)
        if "step" in self.losses or "focus" in self.losses:
            losses |= self._step_losses(encoded, data_samples, texts, text_UP)
        return losses

    def _step_losses(
        self, encoded: EncoderOutput, data_samples: list[CTDataSample], texts: TextBatch, text_UP: Tensor
    ) -> dict[str, Tensor]:
        index_BS, mask_BS, ids_BS = texts.padded_steps(text_UP.device)
        steps_BSP, patches_BNP = text_UP[index_BS], self.step_projection(encoded.tokens)
        attention_BSN = step_attention(steps_BSP, patches_BNP, self.step_scale, encoded.token_mask)
        losses = {}
        if "step" in self.losses:
            losses["loss_step"] = self.losses["step"](attention_BSN, steps_BSP, patches_BNP, mask_BS, ids_BS)
        if "focus" in self.losses:
            target_BSN = step_occupancy(encoded, data_samples, index_BS.shape[1])
            losses["loss_focus"] = self.losses["focus"](attention_BSN, target_BSN)
        return losses

    def _region_loss(
        self, encoded: EncoderOutput, data_samples: list[CTDataSample], texts: TextBatch, text_UP: Tensor
    ) -> Tensor:
        region_BRE, region_mask_BR = self.region_pooling(encoded)
        mentions = RegionMentions.from_samples(data_samples, texts, region_mask_BR)
        region_BRP = self.region_projection(region_BRE)
        region_MP = region_BRP[mentions.cases, mentions.regions - 1]
        text_MP = mentions.mean_text(F.normalize(text_UP, dim=-1))
        return self.losses["region"](region_MP, text_MP, mentions.text_ids, mentions.regions)

    @torch.no_grad()
    def predict(self, encoded: EncoderOutput, data_samples: list[CTDataSample]) -> list[CTDataSample]:
        """Add what metrics read to each sample.

        Normalised embeddings: ``pred_image`` (P), ``pred_regions`` (R, P) with ``pred_region_mask`` (R),
        ``pred_impression`` (P), ``pred_steps`` (S, P). Attention of the steps over patches: ``pred_step_attention``
        (S, N) on ``pred_grid`` (d, h, w), with ``pred_token_mask`` (N). The anatomy it is held against, where the
        case has a region map: ``patch_occupancy`` (N, R + 1).
        """
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
        for b, sample in enumerate(data_samples):
            sample.pred_step_attention = attention_BSN[b, : len(sample.steps)].cpu()
            sample.pred_grid = encoded.grid
            sample.pred_token_mask = encoded.token_mask[b].cpu()
            if region_mask_BR[b].any():
                sample.patch_occupancy = encoded.patch_to_region[b].float().cpu()
            sample.pred_image = image_BP[b]
            sample.pred_regions = region_BRP[b]
            sample.pred_region_mask = region_mask_BR[b].cpu()
            sample.pred_impression = text_UP[texts.impressions[b]]
            sample.pred_steps = text_UP[texts.steps[b]]
        return data_samples
