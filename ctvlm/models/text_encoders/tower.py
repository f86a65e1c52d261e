"""A transformers encoder with tokenizer and projection, and the files that rebuild it."""

from __future__ import annotations

import inspect
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ctvlm.models.layers import AttentionPool
from ctvlm.utils.atomic import write_errors

# transformers takes seconds to import: functions import it.
if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_NOTES = "ctvlm.json"
# Keys that depend on where a file was read from, and keys of custom code: they are removed.
_TRACES = (
    "name_or_path",
    "is_local",
    "local_files_only",
    "vocab_file",
    "auto_map",
    "_commit_hash",
    "transformers_version",
)
_NO_LIMIT = 1_000_000  # tokenizers without a limit state 1e30


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Disable progress bars and load reports of transformers, and its automatic conversion of weights on the hub."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def model_class(config: PreTrainedConfig) -> tuple[Any, dict[str, Any]]:
    """The auto class that builds an encoder from a config, and arguments that leave out unused layers.

    BERT's pooler is left out, because it would have no gradient. For encoder-decoders: the class of the encoder.

    Raises:
        ValueError: transformers cannot build the encoder of this encoder-decoder separately.
    """
    from transformers import AutoModel, AutoModelForTextEncoding
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING

    auto: Any
    concrete: Any
    if type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING:
        auto, concrete = AutoModelForTextEncoding, MODEL_FOR_TEXT_ENCODING_MAPPING[type(config)]
    else:
        auto, concrete = AutoModel, MODEL_MAPPING.get(type(config), None)  # type: ignore[arg-type]
        if config.is_encoder_decoder:
            raise ValueError(f"transformers has no class for the encoder of '{config.model_type}' without its decoder")
    concrete = concrete[0] if isinstance(concrete, tuple) else concrete
    has_pooler = concrete is not None and "add_pooling_layer" in inspect.signature(concrete).parameters
    return auto, {"add_pooling_layer": False} if has_pooler else {}


def build_projection(shapes: list[list]) -> nn.Module:
    """Layers from ``Tower.shapes``.

    Kinds: ``["linear", in, out, bias]``, ``["norm", width]``, ``["gelu"]``, ``["attention", width, heads]``.
    """
    kinds: dict[str, Callable[..., nn.Module]] = {
        "linear": lambda width, out, bias: nn.Linear(width, out, bias=bias),
        "norm": lambda width: nn.LayerNorm(width, eps=1e-12),
        "gelu": nn.GELU,
        "attention": AttentionPool,
    }
    return nn.Sequential(*(kinds[kind](*sizes) for kind, *sizes in shapes))


@dataclass
class Tower:
    """A text encoder read from its files.

    Attributes:
        model: returns ``last_hidden_state`` (B, T, E), in float32.
        tokenizer: its tokenizer.
        projection: layers of the checkpoint after pooling; empty if there are none or they are not used.
        shapes: of the projection, for ``build_projection``.
        limit: number of tokens that the checkpoint was trained with, if it differs from the model's config.
        report: which weights of the checkpoint were used.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    projection: nn.Module
    shapes: list[list]
    limit: int | None = None
    report: str = ""

    @property
    def embed_dims(self) -> int:
        widths = [out for kind, *sizes in self.shapes if kind == "linear" for out in sizes[1:2]]
        return widths[-1] if widths else self.model.config.hidden_size

    @property
    def max_length(self) -> int:
        """Maximum number of tokens: the smallest limit of model, tokenizer and checkpoint; 512 if there is none."""
        limits = [self.limit, getattr(self.model.config, "max_position_embeddings", None)]
        limits.append(self.tokenizer.model_max_length if self.tokenizer.model_max_length < _NO_LIMIT else None)
        for name, module in self.model.named_modules():
            # RoBERTa-like models count positions from the padding index.
            if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
                limits.append(module.num_embeddings - module.padding_idx - 1)
        return min([limit for limit in limits if limit and limit > 0], default=512)

    def files(self) -> dict[str, bytes]:
        """Config and tokenizer as files, independent of where they were read from."""
        notes = {"projection": self.shapes, "limit": self.limit}
        with tempfile.TemporaryDirectory() as folder:
            self.model.config.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
            files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}
        for name in {"config.json", "tokenizer_config.json"} & set(files):
            content = {key: value for key, value in json.loads(files[name]).items() if key not in _TRACES}
            files[name] = json.dumps(content, sort_keys=True).encode()
        return files | {_NOTES: json.dumps(notes).encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Tower:
        """The architecture with random weights, and the tokenizer. The weights are loaded later."""
        from transformers import AutoConfig

        with quiet_transformers(), tempfile.TemporaryDirectory() as folder:
            write_files(files, folder)
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            auto, kwargs = model_class(config)
            model = auto.from_config(config, dtype=torch.float32, trust_remote_code=False, **kwargs)
        notes = json.loads(files[_NOTES])
        shapes = notes["projection"]
        return cls(model, read_tokenizer(files), build_projection(shapes), shapes, notes["limit"])


def write_files(files: Mapping[str, bytes], folder: str) -> None:
    """Write files into a folder.

    Raises:
        ValueError: a path is outside the folder.
    """
    root = Path(folder).resolve()
    for name, content in files.items():
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise ValueError(f"stored file {name!r} is outside its folder; the checkpoint was not written by ctvlm")
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_errors(path):
            path.write_bytes(content)


def read_tokenizer(files: Mapping[str, bytes]) -> PreTrainedTokenizerBase:
    """The tokenizer from stored files."""
    from transformers import AutoTokenizer

    with quiet_transformers(), tempfile.TemporaryDirectory() as folder:
        write_files(files, folder)
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Ids that the tokenizer adds before and after a text.

    Raises:
        ValueError: the tokenizer does not add a fixed prefix and suffix.
    """
    plain = tokenizer("lung", add_special_tokens=False)["input_ids"]
    full = tokenizer("lung")["input_ids"]
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return full[:start], full[start + len(plain) :]
    raise ValueError(
        f"{type(tokenizer).__name__}: 'lung' is {plain}, with special tokens {full}; expected a fixed prefix and suffix"
    )


def pool(hidden_STE: Tensor, mask_ST: Tensor, pooling: str) -> Tensor:
    """Pool token features (S, T, E) to (S, E): ``cls`` is the first token, ``last`` the last unmasked one, ``mean``.

    Padding is on the right.
    """
    if pooling == "cls":
        return hidden_STE[:, 0]
    if pooling == "last":
        last_S = mask_ST.sum(dim=1) - 1
        return hidden_STE[torch.arange(len(hidden_STE), device=hidden_STE.device), last_S]
    weight_ST1 = mask_ST[..., None].to(hidden_STE.dtype)
    return (hidden_STE * weight_ST1).sum(dim=1) / weight_ST1.sum(dim=1)
