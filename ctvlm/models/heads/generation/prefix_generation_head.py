"""A causal language model that generates the reasoning of a case from prefix tokens."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from ctvlm.anatomy import DEFAULT_SCHEME, RegionScheme
from ctvlm.models.heads.generation.answers import Answer, WrittenStep
from ctvlm.models.heads.generation.base import BaseGenerationHead
from ctvlm.models.heads.generation.memory import VisualMemory
from ctvlm.models.layers.patch_embedding import as_grid
from ctvlm.registry import HEADS
from ctvlm.structures import EncoderOutput
from ctvlm.utils import CTVLMError, check_choice
from ctvlm.utils.attention_masks import causal_mask, is_causal
from ctvlm.utils.lora import add_lora
from ctvlm.utils.pretrained_files import pack_files, stored_files, unpack_files

# transformers takes seconds to import: functions import it.
if TYPE_CHECKING:
    from transformers import PreTrainedModel

MODES = ("frozen", "lora", "full")
_STEP = re.compile(r"^- (?:\[(?P<regions>[^\]]*)\] )?(?P<text>.*)$")
_IMPRESSION = "Impression:"


@HEADS.register_module()
class PrefixGenerationHead(BaseGenerationHead):
    """A pretrained causal language model that reads volume, regions and patches as prefix tokens.

    A causal model has no cross-attention, so the visual memory is projected to the width of its word embeddings and
    precedes the text. Steps are lines of plain text with the scheme's region names, so the vocabulary does not change::

        - [lung_upper_lobe_right, heart] A small nodule ...
        Impression: ...

    The state dict contains all weights, the model's configuration and its tokenizer.

    Args:
        in_dims: width of the encoder.
        pretrained: folder or hub id of a causal language model with a fast tokenizer.
        train: ``frozen`` (only the projections are trained), ``lora`` or ``full``.
        lora: arguments of peft's ``LoraConfig``, for ``train='lora'``.
        num_regions, scheme: number of regions R, and the scheme with their names.
        patch_grid: (d, h, w) prefix tokens that patches are averaged to.
        max_length, generation: see BaseGenerationHead; prefix tokens are not counted.

    Raises:
        CTVLMError: the language model cannot be read, it has no fast tokenizer or no end token, or peft is missing.
    """

    pretrained_files: Tensor

    def __init__(
        self,
        in_dims: int,
        pretrained: str,
        train: str = "frozen",
        lora: dict | None = None,
        num_regions: int = 20,
        scheme: str = DEFAULT_SCHEME,
        patch_grid: tuple[int, int, int] = (4, 4, 4),
        max_length: int = 512,
        generation: dict | None = None,
    ) -> None:
        super().__init__(max_length, generation)
        check_choice("PrefixGenerationHead", "train", train, MODES)
        if lora and train != "lora":
            raise ValueError(f"PrefixGenerationHead: found lora={lora} with train={train!r}; expected train='lora'")
        from transformers import AutoConfig, AutoModelForCausalLM

        files = stored_files(pretrained)
        lm: Any
        if files is None:
            lm, files = _read(pretrained)
        else:
            config = json.loads(files["config.json"])
            lm = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.float32)
        self.register_buffer("pretrained_files", pack_files(pretrained, files))
        self._use_tokenizer(files)
        self.trained = train
        self.scheme = RegionScheme.load(scheme)
        width = lm.get_input_embeddings().weight.shape[1]
        self.memory = VisualMemory(in_dims, width, num_regions, as_grid(patch_grid))
        if train == "lora":
            lm = add_lora(lm, {"task_type": "CAUSAL_LM", **(lora or {})})
        elif train == "frozen":
            lm.requires_grad_(False)
        self.lm: Any = lm
        self.train()

    def _use_tokenizer(self, files: dict[str, bytes]) -> None:
        ids = json.loads(files["ids.json"])
        self.tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
        self.start_id, self.eos_id = ids["start"], ids["end"]
        # Padding is always masked, so any token can be used.
        self.pad_id = self.eos_id

    def train(self, mode: bool = True) -> PrefixGenerationHead:
        super().train(mode)
        if self.trained == "frozen":
            self.lm.eval()  # no dropout in a frozen model
        return self

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        saved = state_dict.get(prefix + "pretrained_files")
        if saved is not None:
            # The buffer may have another size, which the default loading would reject.
            self.pretrained_files = saved.to(self.pretrained_files.device, copy=True)
            self._use_tokenizer(unpack_files(saved)[1])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _pieces(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def prompt_ids(self, question: str) -> list[int]:
        start = [] if self.start_id is None else [self.start_id]
        asked = self._pieces(f"Question: {_one_line(question)}\n") if question else []
        return [*start, *asked[-(self.max_length // 2) :], *self._pieces("Report:\n")]

    def answer_ids(self, answer: Answer) -> list[int]:
        return self._pieces("\n".join(self._lines(answer)))

    def answer_parts(self, answer: Answer) -> list[int]:
        lines = self._lines(answer)
        # A token belongs to the line of its last character, because a token can start with the line break before it.
        ends = [end for _, end in self.tokenizer.encode("\n".join(lines), add_special_tokens=False).offsets]
        stops = list(accumulate(len(line) + 1 for line in lines))
        return [bisect_left(stops, end) for end in ends]

    def _lines(self, answer: Answer) -> list[str]:
        lines = []
        for step in answer.steps:
            names = ", ".join(self.scheme.name_of(region) for region in step.regions)
            lines.append(f"- [{names}] {_one_line(step.text)}" if names else f"- {_one_line(step.text)}")
        if answer.impression:
            lines.append(f"{_IMPRESSION} {_one_line(answer.impression)}")
        return lines

    def parse(self, ids: Sequence[int]) -> Answer:
        answer = Answer()
        for line in self.tokenizer.decode(list(ids)).split("\n"):
            line = line.strip()
            if line.startswith(_IMPRESSION):
                answer.impression = " ".join([answer.impression, line[len(_IMPRESSION) :].strip()]).strip()
            elif line:
                match = _STEP.match(line)
                names = [name.strip() for name in (match["regions"] or "").split(",")] if match else []
                # Names that the scheme does not have are left out.
                regions = sorted({self.scheme.id_of(name) for name in names if name in self.scheme.names})
                answer.steps.append(WrittenStep(match["text"] if match else line, tuple(regions)))
        return answer

    def encode_visual(self, encoded: EncoderOutput) -> tuple[Tensor, Tensor]:
        return self.memory(encoded)

    def _with_prefix(
        self, ids_TL: Tensor, mask_TL: Tensor, memory_TME: Tensor, mask_TM: Tensor
    ) -> tuple[Tensor, Tensor]:
        words_TLE = self.lm.get_input_embeddings()(ids_TL)
        embeds = torch.cat([memory_TME.to(words_TLE.dtype), words_TLE], dim=1)
        return embeds, torch.cat([mask_TM.to(mask_TL.dtype), mask_TL], dim=1)

    def logits(self, ids_TL: Tensor, mask_TL: Tensor, memory_TME: Tensor, mask_TM: Tensor) -> Tensor:
        embeds, mask = self._with_prefix(ids_TL, mask_TL, memory_TME, mask_TM)
        # As generate() counts them: masked tokens have no position.
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        base = self.lm.get_base_model() if self.trained == "lora" else self.lm
        if is_causal(base):
            mask = causal_mask(base, mask)
        out = self.lm(inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=False)
        return out.logits[:, memory_TME.shape[1] :]

    def generate_ids(
        self, ids_TL: Tensor, mask_TL: Tensor, memory_TME: Tensor, mask_TM: Tensor, **settings
    ) -> list[list[int]]:
        embeds, mask = self._with_prefix(ids_TL, mask_TL, memory_TME, mask_TM)
        ends = dict(eos_token_id=self.eos_id, pad_token_id=self.pad_id)
        return self.lm.generate(inputs_embeds=embeds, attention_mask=mask, **ends | settings).tolist()


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _read(source: str) -> tuple[PreTrainedModel, dict[str, bytes]]:
    """A language model with its weights, and the files that rebuild its architecture and tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        lm = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise CTVLMError(
            f"language model {source!r} cannot be loaded: {' '.join(str(error).split())} Expected a folder with "
            "config.json, weights and tokenizer.json, or a hub id that was downloaded before."
        ) from error
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else lm.config.eos_token_id
    end = end[0] if isinstance(end, (list, tuple)) else end
    if not tokenizer.is_fast or end is None:
        raise CTVLMError(f"language model {source!r}: expected a fast tokenizer (tokenizer.json) and an end token.")
    config = {key: value for key, value in lm.config.to_dict().items() if key != "_name_or_path"}
    return lm, {
        "config.json": json.dumps(config, sort_keys=True).encode(),
        "tokenizer.json": tokenizer.backend_tokenizer.to_str().encode(),
        "ids.json": json.dumps({"start": tokenizer.bos_token_id, "end": end}).encode(),
    }
