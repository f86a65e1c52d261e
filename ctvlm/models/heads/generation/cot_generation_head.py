"""A small decoder that generates the reasoning of a case, region by region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ctvlm.models.heads.generation.answers import Answer, WrittenStep
from ctvlm.models.heads.generation.base import BaseGenerationHead
from ctvlm.models.heads.generation.memory import VisualMemory
from ctvlm.registry import HEADS
from ctvlm.structures import EncoderOutput
from ctvlm.text.tokenizer import FittedTokenizerMixin
from ctvlm.utils.attention_masks import causal_mask, cross_attention_mask

# Ids of control tokens; those of the tokenizer follow, so that no text contains a control token.
PAD, START, END, QUESTION, STEP, IMPRESSION, NUM_CONTROLS = range(7)


@HEADS.register_module()
class CoTGenerationHead(FittedTokenizerMixin, BaseGenerationHead):
    """A GPT-2 trained from scratch, with cross-attention to the volume, its regions and its patches.

    Sequences are ``[question] step* impression``, each step is ``<step> <region>* text``: the regions are generated
    first, so the text of a step is conditioned on them. A region's token and its features in the memory share one name
    vector (see VisualMemory). The head has a cased tokenizer of its own, which is fitted on the training texts and
    stored in the state dict.

    Args:
        in_dims: width of the encoder.
        num_regions: regions R of the scheme.
        vocab_size: upper bound of the tokenizer's vocabulary.
        embed_dims, depth, num_heads, dropout: of the decoder.
        max_length, generation: see BaseGenerationHead.
    """

    pad_id, eos_id = PAD, END

    def __init__(
        self,
        in_dims: int,
        num_regions: int = 20,
        vocab_size: int = 2048,
        embed_dims: int = 128,
        depth: int = 2,
        num_heads: int = 4,
        dropout: float = 0.1,
        max_length: int = 512,
        generation: dict | None = None,
    ) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel  # imported when used: it takes a second

        super().__init__(max_length, generation)
        self.init_tokenizer(vocab_size, lowercase=False)
        self.num_regions = num_regions
        self.text_offset = NUM_CONTROLS + num_regions
        config = GPT2Config(
            vocab_size=self.text_offset + vocab_size,
            n_positions=max_length,
            n_embd=embed_dims,
            n_layer=depth,
            n_head=num_heads,
            add_cross_attention=True,
            # mmengine's optimizer constructor rejects a parameter that two modules share.
            tie_word_embeddings=False,
            resid_pdrop=dropout,
            embd_pdrop=dropout,
            attn_pdrop=dropout,
            bos_token_id=START,
            eos_token_id=END,
        )
        self.decoder: Any = GPT2LMHeadModel(config)
        self.memory = VisualMemory(in_dims, embed_dims, num_regions, own_names=False)

    def _pieces(self, text: str) -> list[int]:
        return [i + self.text_offset for i in self.tokenizer.encode(text, add_special_tokens=False).ids]

    def prompt_ids(self, question: str) -> list[int]:
        # A question may have half of the tokens; of a longer one the end is used.
        asked = self._pieces(question)[-(self.max_length // 2) :] if question else []
        return [START, *([QUESTION, *asked] if asked else [])]

    def answer_ids(self, answer: Answer) -> list[int]:
        return [token for part in self._parts(answer) for token in part]

    def answer_parts(self, answer: Answer) -> list[int]:
        return [number for number, part in enumerate(self._parts(answer)) for _ in part]

    def _parts(self, answer: Answer) -> list[list[int]]:
        """Tokens of each step, then of the impression."""
        steps = [
            [STEP, *(NUM_CONTROLS + region - 1 for region in step.regions), *self._pieces(step.text)]
            for step in answer.steps
        ]
        return [*steps, [IMPRESSION, *self._pieces(answer.impression)] if answer.impression else []]

    def parse(self, ids: Sequence[int]) -> Answer:
        answer, in_impression = Answer(), False
        texts: list[list[int]] = []
        impression: list[int] = []
        for token in ids:
            if token == IMPRESSION:
                in_impression = True
            elif token == STEP or (not texts and not in_impression):
                in_impression = False
                answer.steps.append(WrittenStep(""))
                texts.append([])
            if NUM_CONTROLS <= token < self.text_offset and not in_impression:
                step, region = answer.steps[-1], token - NUM_CONTROLS + 1
                step.regions = tuple(sorted({*step.regions, region}))
            elif token >= self.text_offset:
                (impression if in_impression else texts[-1]).append(token - self.text_offset)
        for step, pieces in zip(answer.steps, texts, strict=True):
            step.text = self.tokenizer.decode(pieces).strip()
        answer.impression = self.tokenizer.decode(impression).strip()
        return answer

    def encode_visual(self, encoded: EncoderOutput) -> tuple[Tensor, Tensor]:
        names_RE = self.decoder.transformer.wte.weight[NUM_CONTROLS : self.text_offset]
        return self.memory(encoded, names_RE)

    def logits(self, ids_TL: Tensor, mask_TL: Tensor, memory_TME: Tensor, mask_TM: Tensor) -> Tensor:
        return self.decoder(
            input_ids=ids_TL,
            attention_mask=causal_mask(self.decoder, mask_TL),
            encoder_hidden_states=memory_TME,
            encoder_attention_mask=cross_attention_mask(self.decoder, ids_TL.shape[1], mask_TM),
            use_cache=False,
        ).logits

    def generate_ids(
        self, ids_TL: Tensor, mask_TL: Tensor, memory_TME: Tensor, mask_TM: Tensor, **settings
    ) -> list[list[int]]:
        output_TL = self.decoder.generate(
            input_ids=ids_TL,
            attention_mask=mask_TL,
            encoder_hidden_states=memory_TME,
            encoder_attention_mask=mask_TM.long(),
            # Not in the config: transformers would warn about the padding after finished rows.
            **dict(pad_token_id=PAD) | settings,
        )
        return output_TL[:, ids_TL.shape[1] :].tolist()
