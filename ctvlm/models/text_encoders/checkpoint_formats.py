"""Reading of text encoders in published checkpoint formats.

- transformers: ``config.json``, weights as safetensors or ``pytorch_model.bin``, tokenizer files. Example: BioBERT.
- CXR-BERT: the same with custom code. Its encoder is a BERT, and is read without running that code.
- open_clip: ``open_clip_config.json`` and one file with the weights of a whole CLIP, whose text tower may be a
  transformers encoder. Example: BiomedCLIP.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ctvlm.models.text_encoders.tower import Tower, build_projection, model_class, quiet_transformers
from ctvlm.utils import CTVLMError

# transformers takes seconds to import: functions import it.
if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

# Model types with custom code whose encoder is one of transformers' own.
_PLAIN = {"cxr-bert": "bert"}
# Weights of older versions, and of poolers, which are not built.
_OPTIONAL = ("position_ids", "pooler.")
_OPEN_CLIP_POOLING = {"mean_pooler": "mean", "cls_last_hidden_state_pooler": "cls"}
_FAILURES = (OSError, EOFError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError, UnpicklingError)


@dataclass
class Source:
    """A folder or hub id, and options for reading it."""

    name: str
    revision: str | None = None
    tokenizer: dict[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of transformers' ``from_pretrained``."""
        return {"revision": self.revision or "main", "trust_remote_code": self.trust_remote_code}

    def find(self, filename: str) -> str | None:
        """Local path of a file; None if it does not exist or is not reachable."""
        from transformers.utils import cached_file

        return cached_file(
            self.name,
            filename,
            revision=self.revision or "main",
            _raise_exceptions_for_missing_entries=False,
            # Without network, a file that was not downloaded may not exist at all.
            _raise_exceptions_for_connection_errors=False,
        )

    def json(self, filename: str) -> dict | None:
        """Content of a JSON file; None if it does not exist."""
        path = self.find(filename)
        if path is None:
            return None
        with open(path, encoding="utf-8") as file:
            return json.load(file)

    def weights(self, *filenames: str) -> dict[str, Tensor]:
        """Content of the first weight file that exists.

        Raises:
            FileNotFoundError: none of them exists.
        """
        for filename in filenames:
            if path := self.find(filename):
                if filename.endswith(".safetensors"):
                    return load_file(path)
                return torch.load(path, map_location="cpu", weights_only=True)
        raise FileNotFoundError(f"expected one of the weight files {', '.join(filenames)}; found none")


def read_tower(source: Source, pooling: str, with_projection: bool) -> Tower:
    """Read a text encoder.

    Args:
        pooling: pooling of the caller; it must be the one that the projection was trained with.
        with_projection: use the checkpoint's projection.

    Raises:
        CTVLMError: the encoder cannot be read, some of its weights are missing, or the checkpoint has no projection
            for this pooling.
    """
    with readable(source):
        open_clip = source.json("open_clip_config.json")
        if open_clip is not None:
            tower = _read_open_clip(source, open_clip, pooling, with_projection)
        else:
            tower = _read_transformers(source, pooling, with_projection)
        _check_tokenizer(tower)
    return tower


def read_architecture(source: Source) -> Tower:
    """A text encoder with random weights, from its config and tokenizer files alone.

    Raises:
        CTVLMError: a file is missing or cannot be read.
    """
    with readable(source):
        config, plain = _read_config(source)
        auto, kwargs = model_class(config)
        model = auto.from_config(config, dtype=torch.float32, trust_remote_code=False, **kwargs)
        tower = Tower(model, _read_tokenizer(source, plain), build_projection([]), [])
        _check_tokenizer(tower)
    return tower


@contextmanager
def readable(source: Source) -> Iterator[None]:
    """Context in which errors of reading the files become one CTVLMError."""
    try:
        with quiet_transformers():
            yield
    except CTVLMError:
        raise
    except _FAILURES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if os.path.isdir(source.name):
            reason += " Expected config.json (or open_clip_config.json), weights and tokenizer files in that folder."
        else:
            reason += (
                " There is no such folder, so the name is used as a hub id. Without network (or with HF_HUB_OFFLINE=1) "
                "only downloaded models are found. Download it on a machine with network, "
                f"`hf download {source.name} --local-dir FOLDER`, and set text_encoder.pretrained=FOLDER."
            )
        raise CTVLMError(f"text encoder '{source.name}' cannot be loaded: {reason}") from error


def _read_config(source: Source) -> tuple[PreTrainedConfig, str | None]:
    """Config of an encoder, and its model type if transformers would need custom code for it."""
    from transformers import AutoConfig, PreTrainedConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    raw, _ = PreTrainedConfig.get_config_dict(source.name, revision=source.revision or "main")
    if "model_type" not in raw:
        raise ValueError("config.json is missing or has no model_type.")
    model_type = raw["model_type"]
    plain = _PLAIN.get(model_type)
    if plain is not None and not source.trust_remote_code:
        ours = {key: value for key, value in raw.items() if key not in ("model_type", "auto_map", "architectures")}
        config = AutoConfig.for_model(plain, **ours)
    elif model_type not in CONFIG_MAPPING and not source.trust_remote_code:
        raise CTVLMError(
            f"text encoder '{source.name}' has model_type '{model_type}', which needs code from that "
            "repository. Read the code, and set text_encoder.trust_remote_code=True to run it."
        )
    else:
        config = AutoConfig.from_pretrained(source.name, **source.options)
    if hasattr(config, "vision_config"):
        raise CTVLMError(
            f"'{source.name}' is a {model_type} model of images and texts; expected a text encoder. Save its text "
            "model separately."
        )
    return config, plain


def _read_transformers(source: Source, pooling: str, with_projection: bool) -> Tower:
    config, plain = _read_config(source)
    auto, kwargs = model_class(config)
    model, info = auto.from_pretrained(
        source.name, config=config, dtype=torch.float32, output_loading_info=True, **source.options, **kwargs
    )
    shapes: list[list[Any]] = []
    projection = build_projection(shapes)
    if with_projection:
        weights = source.weights("model.safetensors", "pytorch_model.bin")
        # CXR-BERT's projection of the CLS token to a space shared with images (Boecking et al., ECCV 2022).
        names = {"dense_to_hidden": 0, "LayerNorm": 2, "dense_to_output": 3}
        head = {
            f"{names[layer]}.{kind}": weights[key]
            for key in weights
            if key.startswith("cls_projection_head.")
            for _, layer, kind in [key.split(".")]
        }
        if not head or pooling != "cls":
            raise CTVLMError(_no_projection(source, "cls" if head else None, pooling))
        width, inner = head["0.weight"].shape[::-1]
        shapes = [
            ["linear", width, inner, True],
            ["gelu"],
            ["norm", inner],
            ["linear", inner, len(head["3.weight"]), True],
        ]
        projection = build_projection(shapes)
        projection.load_state_dict(head)
    report = _report(source, model, info["missing_keys"], info["unexpected_keys"])
    return Tower(model, _read_tokenizer(source, plain), projection, shapes, report=report)


def _read_open_clip(source: Source, settings: dict, pooling: str, with_projection: bool) -> Tower:
    from transformers import AutoConfig

    text_cfg = settings.get("model_cfg", settings).get("text_cfg", {})
    architecture = text_cfg.get("hf_model_name")
    if architecture is None:
        raise CTVLMError(f"the text tower of '{source.name}' has no hf_model_name; expected a transformers encoder")
    # If the folder has no config.json of the architecture, only this file of the named model is read.
    has_config = source.find("config.json") is not None
    try:
        config = AutoConfig.from_pretrained(source.name if has_config else architecture, trust_remote_code=False)
    except OSError as error:
        raise CTVLMError(
            f"text encoder '{source.name}': the config.json of its architecture '{architecture}' cannot be read "
            f"({' '.join(str(error).split())}). Copy this file to the folder of the weights."
        ) from error
    auto, kwargs = model_class(config)
    model = auto.from_config(config, dtype=torch.float32, trust_remote_code=False, **kwargs)
    weights: dict[str, Any] = source.weights("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    weights = weights.get("state_dict", weights)
    tower_weights = {
        key.removeprefix("text.transformer."): w for key, w in weights.items() if key.startswith("text.transformer.")
    }
    missing, unexpected = model.load_state_dict(tower_weights, strict=False)
    rest = [key for key in weights if not key.startswith(("text.transformer.", "text.proj."))]

    shapes: list[list[Any]] = []
    projection = build_projection(shapes)
    if with_projection:
        head = {key.removeprefix("text.proj."): w for key, w in weights.items() if key.startswith("text.proj.")}
        pooler = text_cfg.get(
            "hf_pooler_type", "cls_pooler"
        )  # open_clip's default for BERT: a layer after the CLS token
        trained_with = _OPEN_CLIP_POOLING.get(pooler, pooler)
        if not head or trained_with != pooling:
            raise CTVLMError(_no_projection(source, trained_with if head else None, pooling))
        if "weight" in head:
            head = {"0.weight": head["weight"]}
        for key in sorted(head):
            shapes += [["gelu"]] * bool(shapes) + [["linear", head[key].shape[1], head[key].shape[0], False]]
        projection = build_projection(shapes)
        projection.load_state_dict(head)
    report = _report(source, model, missing, [*unexpected, *rest])
    limit = text_cfg.get("context_length")
    return Tower(model, _read_tokenizer(source, config.model_type), projection, shapes, limit, report)


def _read_tokenizer(source: Source, model_type: str | None) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    # With the type given, transformers does not look for custom code of a tokenizer.
    named = {"tokenizer_type": model_type} if model_type else {}
    return AutoTokenizer.from_pretrained(source.name, **named, **source.tokenizer, **source.options)


def _check_tokenizer(tower: Tower) -> None:
    tokenizer: Any = tower.tokenizer
    embeddings: Any = tower.model.get_input_embeddings()
    size: int = embeddings.num_embeddings
    ids = tokenizer("no pleural effusion in the left lung", add_special_tokens=False)["input_ids"]
    if not ids or set(ids) == {tokenizer.unk_token_id}:
        raise ValueError(
            f"its tokenizer ({type(tokenizer).__name__}, {len(tokenizer)} pieces) knows no word of a test sentence"
        )
    if len(tokenizer) > size:
        raise ValueError(f"its tokenizer has {len(tokenizer)} pieces, but its model has only {size} embeddings")


def _report(source: Source, model: torch.nn.Module, missing: Any, unexpected: Any) -> str:
    expected = model.state_dict()
    missing = sorted(key for key in missing if not any(part in key for part in _OPTIONAL))
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(expected)} weights of {type(model).__name__} are missing: {missing[:3]}."
        )
    # Number of unused weights by part of the checkpoint: "cls 7, bert.pooler 2".
    unused_parts = Counter(
        ".".join(key.split(".")[:2]) if "pooler" in key else key.split(".")[0]
        for key in unexpected
        if "position_ids" not in key
    )
    unused = ", ".join(f"{name} {number}" for name, number in sorted(unused_parts.items())) or "none"
    return f"{source.name}: all {len(expected)} weights of {type(model).__name__} found; not used: {unused}"


def _no_projection(source: Source, trained_with: str | None, pooling: str) -> str:
    if trained_with is None:
        return f"text encoder '{source.name}' has no projection; set text_encoder.projection=False"
    return (
        f"the projection of text encoder '{source.name}' was trained with '{trained_with}' pooling; found "
        f"text_encoder.pooling='{pooling}'. Set text_encoder.pooling='{trained_with}' or text_encoder.projection=False."
    )
