"""Pretrained transformers models as text encoders."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor

from ctvlm.models.text_encoders.base import BaseTextEncoder
from ctvlm.models.text_encoders.checkpoint_formats import Source, read_tower
from ctvlm.models.text_encoders.embedding_cache import EmbeddingCache
from ctvlm.models.text_encoders.tower import Tower, pool, quiet_transformers, read_tokenizer, special_tokens
from ctvlm.models.text_encoders.trainable import MODES, choose_trained
from ctvlm.registry import TEXT_ENCODERS
from ctvlm.utils.attention_masks import padding_mask
from ctvlm.utils.pretrained_files import pack_files, stored_files, unpack_files

# transformers takes seconds to import: functions import it.
if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@TEXT_ENCODERS.register_module()
class HFTextEncoder(BaseTextEncoder):
    """A pretrained encoder from a local folder or the Hugging Face hub; BERT's family, T5's encoder, causal models.

    The state dict contains config, tokenizer and all weights, including frozen weights, so a checkpoint is complete
    and as large as the encoder (BERT-base: 440 MB in float32). It does not contain code: with ``trust_remote_code``
    the source must be available wherever the model is built.

    Args:
        pretrained: folder or hub id. Formats: see ``checkpoint_formats``.
        train: ``frozen`` (no gradients, no dropout); ``top``: the last ``top_layers`` layers and the projection;
            ``lora``: adapters, with ``lora`` as arguments of ``peft.LoraConfig``; ``full``.
        pooling: ``cls`` (first token), ``mean``, or ``last`` for causal models. Padding is always on the right and
            masked, so that positions do not depend on the batch.
        projection: use the checkpoint's projection to a space shared with images (BiomedCLIP, CXR-BERT).
        max_length: maximum number of tokens of a section; default: the limit of the model. See BaseTextEncoder.
        cache_dir: folder for the embeddings of a frozen encoder, in one file per fingerprint of weights, tokenizer and
            pooling. They are computed in float32, also under autocast.
        tokenizer: options of the tokenizer that its files do not contain (``dict(do_lower_case=False)``).
        revision: of a hub id: branch, tag or commit.

    Raises:
        CTVLMError: the encoder cannot be read, or peft is missing.
        ValueError: an option is invalid for the encoder.
    """

    poolings: tuple[str, ...] = ("cls", "mean", "last")

    def __init__(
        self,
        pretrained: str,
        train: str = "frozen",
        top_layers: int = 2,
        lora: dict[str, Any] | None = None,
        pooling: str = "mean",
        projection: bool = False,
        max_length: int | None = None,
        bucket_size: int = 32,
        cache_dir: str | None = None,
        tokenizer: dict[str, Any] | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ):
        for name, value, known in (("train", train, MODES), ("pooling", pooling, self.poolings)):
            if value not in known:
                raise ValueError(f"text_encoder.{name}={value!r}: expected one of {', '.join(known)}")
        if cache_dir is not None and train != "frozen":
            raise ValueError(f"text_encoder.cache_dir needs train='frozen', found train='{train}'")
        files = None if trust_remote_code else stored_files(pretrained)
        if files is not None:
            tower = Tower.from_files(files)
        else:
            folder = str(Path(pretrained).expanduser())
            tower = self._read(Source(folder, revision, dict(tokenizer or {}), trust_remote_code), pooling, projection)
            print_log(f"text encoder {tower.report}", logger="current")
        limit = tower.max_length
        if max_length is not None and not 3 < max_length <= limit:
            raise ValueError(f"text_encoder.max_length={max_length}: expected 4 to {limit} for '{pretrained}'")
        super().__init__(max_length or limit, bucket_size)

        self.trained, self.pooling, self.cache_dir = train, pooling, cache_dir
        self.embed_dims = tower.embed_dims
        self.projection = tower.projection
        self.model, self._in_training = choose_trained(tower.model, tower.projection, train, top_layers, lora)
        self.register_buffer("pretrained_files", pack_files(pretrained, files or tower.files()))
        self._use_tokenizer(tower.tokenizer)
        self._fingerprint: str | None = None
        self.train()

    def _read(self, source: Source, pooling: str, projection: bool) -> Tower:
        return read_tower(source, pooling, projection)

    def _use_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._prefix, self._suffix = special_tokens(tokenizer)
        if self.pooling == "cls" and not self._prefix:
            raise ValueError(f"text_encoder.pooling='cls': {type(tokenizer).__name__} adds no token before a text")
        # RoBERTa-like models identify padding by its id, all others by the mask, so any id is valid for them.
        self._pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0

    @property
    def num_special_tokens(self) -> int:
        return len(self._prefix) + len(self._suffix)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.pretrained_files.device

    def train(self, mode: bool = True) -> HFTextEncoder:
        """Set the mode; frozen layers stay in evaluation mode, without dropout."""
        super().train(mode)
        self.model.eval()
        self.projection.eval()
        for module in self._in_training:
            module.train(mode)
        return self

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        # Not verbose: texts beyond the limit are split, and need no warning.
        return self._tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]

    def encode_tokens(self, tokens: list[list[int]]) -> Tensor:
        # Without special tokens an empty text has no token: one padding token is used.
        rows = [[*self._prefix, *ids, *self._suffix] or [self._pad] for ids in tokens]
        input_ids = torch.full((len(rows), max(map(len, rows))), self._pad)
        mask_ST = torch.zeros(input_ids.shape, dtype=torch.bool)
        for s, row in enumerate(rows):
            input_ids[s, : len(row)] = torch.tensor(row)
            mask_ST[s, : len(row)] = True
        input_ids = input_ids.to(self.device, non_blocking=True)
        mask = padding_mask(self.model, mask_ST, self.device)
        hidden_STE = self.model(input_ids=input_ids, attention_mask=mask).last_hidden_state
        return self.embed_hidden(hidden_STE, mask_ST.to(self.device, non_blocking=True))

    def embed_hidden(self, hidden_STE: Tensor, mask_ST: Tensor) -> Tensor:
        """Embeddings (S, P) from the features of tokens; ``mask_ST`` is False for padding."""
        return self.projection(pool(hidden_STE, mask_ST, self.pooling))

    def forward(self, texts: Sequence[str]) -> Tensor:
        if self.trained != "frozen":
            return super().forward(texts)
        with torch.no_grad():
            return super().forward(texts) if self.cache_dir is None else self._cached(list(texts), self.cache_dir)

    def _cached(self, texts: list[str], cache_dir: str) -> Tensor:
        cache = EmbeddingCache(Path(cache_dir) / f"{self.fingerprint()}.sqlite", self.embed_dims)
        known = cache.get(texts)
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            with torch.autocast(self.device.type, enabled=False):
                computed = super().forward(new).float().cpu().numpy()
            fresh = dict(zip(new, computed, strict=True))
            cache.put(fresh)
            known |= fresh
        return torch.from_numpy(np.stack([known[text] for text in texts])).to(self.device)

    def fingerprint(self) -> str:
        """Hash of weights, config, tokenizer, pooling and section length, which determine the embeddings."""
        if self._fingerprint is None:
            digest = hashlib.blake2b(f"1 {self.pooling} {self.max_length}".encode(), digest_size=16)
            _, files = unpack_files(self.pretrained_files)
            for name, content in sorted(files.items()):
                digest.update(f"{name} {len(content)} ".encode() + content)
            for part in (self.model, self.projection):
                for name, weight in sorted(part.state_dict().items()):
                    digest.update(f"{name} {weight.dtype} {tuple(weight.shape)} ".encode())
                    digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def _apply(self, fn: Callable, *args: Any, **kwargs: Any) -> HFTextEncoder:
        self._fingerprint = None  # the dtype of the weights may change
        return super()._apply(fn, *args, **kwargs)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any) -> None:
        self._fingerprint = None
        saved = state_dict.get(prefix + "pretrained_files")
        if saved is not None:
            # The buffer may have another size, which the default loading would reject.
            self.pretrained_files = saved.to(self.device, copy=True)
            self._use_tokenizer(read_tokenizer(unpack_files(saved)[1]))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def export_pretrained(self, folder: str | Path) -> None:
        """Write the encoder in the format of transformers, with LoRA merged into the weights.

        Read it with ``AutoModel`` (encoder of an encoder-decoder: ``AutoModelForTextEncoding``) and ``AutoTokenizer``.
        The folder does not contain pooling and projection.
        """
        model: Any = self.model
        if self.trained == "lora":
            model = copy.deepcopy(model).merge_and_unload()
        with quiet_transformers():
            model.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)
