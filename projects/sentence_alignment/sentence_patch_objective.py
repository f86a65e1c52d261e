"""Report sentences compared with patches."""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from ctvlm.models.objectives import BatchContext, Objective, TextBank
from ctvlm.models.objectives.text_ids import text_id
from ctvlm.registry import OBJECTIVES
from ctvlm.structures import CTDataSample, Pairs
from ctvlm.text import split_sentences


@OBJECTIVES.register_module()
class SentencePatchObjective(Objective):
    """Align each sentence of the findings with the patches that it attends to.

    Reports without reasoning steps can be used. The method is GLoRIA's (Huang et al., 2021), with sentences instead of
    words. Predictions: ``pred_sentences`` (S, P), normalised, and ``pred_sentence_attention`` (S, N), the attention of
    each sentence over the patches of its case; S sentences in the order of the report.

    Args:
        max_sentences: sentences of a case that are used, from the start of the findings.
        kwargs: as Objective.
    """

    default_loss = "StepAlignmentLoss"
    needs = frozenset({"pred_sentences", "pred_sentence_attention"})

    def __init__(self, max_sentences: int = 32, **kwargs) -> None:
        super().__init__(**kwargs)
        self.max_sentences = max_sentences

    def sentences(self, sample: CTDataSample) -> list[str]:
        """Sentences of the findings of a case; none without findings."""
        sentences = [sentence.strip() for sentence in split_sentences(sample.findings)]
        return [sentence for sentence in sentences if sentence][: self.max_sentences]

    def request(self, texts: TextBank) -> None:
        for case, sample in enumerate(texts.samples):
            texts.request(case, self.sentences(sample))

    def features(self, context: BatchContext) -> Pairs:
        visual, text, ids = [], [], []
        for case, sample in enumerate(context.samples):
            sentences = self.sentences(sample)
            text_SP, attention_SN = self._attend(context, case, sentences)
            text.append(text_SP)
            visual.append(attention_SN.to(context.unit_patch_BNP.dtype) @ context.unit_patch_BNP[case])
            ids += [text_id(sentence) for sentence in sentences]
        text_MP = torch.cat(text)
        return Pairs(torch.cat(visual), text_MP, torch.tensor(ids, dtype=torch.long, device=text_MP.device))

    def predict(self, context: BatchContext, keys: Collection[str]) -> None:
        for case, sample in enumerate(context.samples):
            text_SP, attention_SN = self._attend(context, case, self.sentences(sample))
            if "pred_sentences" in keys:
                sample.pred_sentences = F.normalize(text_SP, dim=-1).float().cpu()
            if "pred_sentence_attention" in keys:
                sample.pred_sentence_attention = attention_SN.float().cpu()

    @staticmethod
    def _attend(context: BatchContext, case: int, sentences: list[str]) -> tuple[Tensor, Tensor]:
        """Embeddings (S, P) of the sentences of a case, and their attention over its patches (S, N)."""
        text_SP = context.texts.embed(sentences)
        one = slice(case, case + 1)
        mask_1N = context.encoded.token_mask[one]
        return text_SP, context.space.step_attention(text_SP[None], context.patch_BNP[one], mask_1N)[0]
