"""Any causal language model as the writer: the volume comes before the text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from ctvlm.anatomy import DEFAULT_SCHEME, RegionScheme
from ctvlm.models.heads.generation.base import BaseGenerationHead
from ctvlm.models.heads.generation.memory import VisualMemory
from ctvlm.models.heads.generation.turns import Turn, WrittenStep
from ctvlm.registry import HEADS
from ctvlm.structures import EncoderOutput
from ctvlm.utils import CTVLMError, check_choice
from ctvlm.utils.pretrained_files import pack_files, stored_files, unpack_files

MODES = ("frozen", "lora", "full")
_STEP = re.compile(r"^- (?:\[(?P<regions>[^\]]*)\] )?(?P<text>.*)$")
_IMPRESSION = "Impression:"


@HEADS.register_module()
class PrefixGenerationHead(BaseGenerationHead):
    """A pretrained causal language model that reads volume, regions and patches as prefix tokens.

    An arbitrary model has no cross-attention: the visual memory is projected to the width of its word embeddings and
    put before the text. Steps are written in words, one a line, regions by the scheme's names, so that nothing is
    added to the vocabulary::

        - [lung_upper_lobe_right, heart] A small nodule ...
        Impression: ...

    The state dict holds all weights, the model's configuration and its tokenizer: a checkpoint is complete.

    Args:
        in_dims: width of the encoder.
        pretrained: folder or hub id of a causal language model with a fast tokenizer.
        train: ``frozen`` (only the projections learn), ``lora`` or ``full``.
        lora: arguments of peft's ``LoraConfig``, for ``train='lora'``.
        num_regions, scheme: regions R, and the scheme that names them.
        patch_grid: patches are averaged to so many (d, h, w) prefix tokens.
        max_length, generation: see BaseGenerationHead; prefix tokens are not counted.

    Raises:
        CTVLMError: the language model cannot be read, or has no fast tokenizer or no end token.
    """

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
            raise ValueError(f"PrefixGenerationHead has lora={lora}, but train={train!r}: expected train='lora'.")
        files = stored_files(pretrained)
        if files is None:
            lm, files = _read(pretrained)
        else:
            config = json.loads(files["config.json"])
            lm = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.float32)
        self.register_buffer("pretrained_files", pack_files(pretrained, files))
        self._use_tokenizer(files)
        self.trained = train
        self.scheme = RegionScheme.load(scheme)
        width = lm.get_input_embeddings().embedding_dim
        self.memory = VisualMemory(in_dims, width, num_regions, tuple(patch_grid))
        if train == "lora":
            from peft import LoraConfig, get_peft_model  # a second to import, and only for this

            lm = get_peft_model(lm, LoraConfig(task_type="CAUSAL_LM", **(lora or {})))
        elif train == "frozen":
            lm.requires_grad_(False)
        self.lm = lm
        self.train()

    def _use_tokenizer(self, files: dict[str, bytes]) -> None:
        ids = json.loads(files["ids.json"])
        self.tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
        self.start_id, self.eos_id = ids["start"], ids["end"]
        # Masked wherever it stands: any token serves as padding.
        self.pad_id = self.eos_id

    def train(self, mode: bool = True) -> PrefixGenerationHead:
        super().train(mode)
        if self.trained == "frozen":
            self.lm.eval()  # no dropout in what does not learn
        return self

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        saved = state_dict.get(prefix + "pretrained_files")
        if saved is not None:
            # Shapes differ where the files do, which the default loading refuses.
            self.pretrained_files = saved.to(self.pretrained_files.device, copy=True)
            self._use_tokenizer(unpack_files(saved)[1])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _pieces(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def prompt_ids(self, question: str) -> list[int]:
        start = [] if self.start_id is None else [self.start_id]
        asked = self._pieces(f"Question: {_one_line(question)}\n") if question else []
        return [*start, *asked[-(self.max_length // 2) :], *self._pieces("Report:\n")]

    def answer_ids(self, turn: Turn) -> list[int]:
        lines = []
        for step in turn.steps:
            names = ", ".join(self.scheme.name_of(region) for region in step.regions)
            lines.append(f"- [{names}] {_one_line(step.text)}" if names else f"- {_one_line(step.text)}")
        if turn.impression:
            lines.append(f"{_IMPRESSION} {_one_line(turn.impression)}")
        return self._pieces("\n".join(lines))

    def parse(self, ids: Sequence[int]) -> Turn:
        turn = Turn()
        for line in self.tokenizer.decode(list(ids)).split("\n"):
            line = line.strip()
            if line.startswith(_IMPRESSION):
                turn.impression = " ".join([turn.impression, line[len(_IMPRESSION) :].strip()]).strip()
            elif line:
                match = _STEP.match(line)
                names = [name.strip() for name in (match["regions"] or "").split(",")] if match else []
                # A name that the scheme does not have was made up.
                regions = sorted({self.scheme.id_of(name) for name in names if name in self.scheme.names})
                turn.steps.append(WrittenStep(match["text"] if match else line, tuple(regions)))
        return turn

    def see(self, encoded: EncoderOutput) -> tuple[Tensor, Tensor]:
        return self.memory(encoded)

    def _with_prefix(
        self, ids_TL: Tensor, mask_TL: Tensor, memory_TME: Tensor, mask_TM: Tensor
    ) -> tuple[Tensor, Tensor]:
        words_TLE = self.lm.get_input_embeddings()(ids_TL)
        embeds = torch.cat([memory_TME.to(words_TLE.dtype), words_TLE], dim=1)
        return embeds, torch.cat([mask_TM.to(mask_TL.dtype), mask_TL], dim=1)

    def logits(self, ids_TL: Tensor, mask_TL: Tensor, memory_TME: Tensor, mask_TM: Tensor) -> Tensor:
        embeds, mask = self._with_prefix(ids_TL, mask_TL, memory_TME, mask_TM)
        # As generate() counts them, so that what is masked takes no place.
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        out = self.lm(inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=False)
        return out.logits[:, memory_TME.shape[1] :]

    def continue_from(
        self, ids_TL: Tensor, mask_TL: Tensor, memory_TME: Tensor, mask_TM: Tensor, **settings
    ) -> list[list[int]]:
        embeds, mask = self._with_prefix(ids_TL, mask_TL, memory_TME, mask_TM)
        ends = dict(eos_token_id=self.eos_id, pad_token_id=self.pad_id)
        return self.lm.generate(inputs_embeds=embeds, attention_mask=mask, **ends | settings).tolist()


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _read(source: str) -> tuple[PreTrainedModel, dict[str, bytes]]:
    """A language model with its weights, and what rebuilds it without them."""
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
