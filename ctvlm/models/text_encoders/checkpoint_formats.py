"""Text encoders from the formats that medical ones are published in.

- transformers: ``config.json``, weights as safetensors or ``pytorch_model.bin``, tokenizer files. So BioBERT.
- CXR-BERT: the same with code of its own; its encoder is a plain BERT and is read as such, without running that code.
- open_clip: ``open_clip_config.json`` and one file with the weights of a whole CLIP, whose text tower may be a
  transformers encoder. BiomedCLIP.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import cached_file

from ctvlm.models.text_encoders.tower import Tower, build_projection, model_class, quiet_transformers
from ctvlm.utils import CTVLMError

# Model types with custom code whose encoder is one of transformers' own.
_PLAIN = {"cxr-bert": "bert"}
# Weights that older versions saved, and the poolers that are not built.
_EXPENDABLE = ("position_ids", "pooler.")
_OPEN_CLIP_POOLING = {"mean_pooler": "mean", "cls_last_hidden_state_pooler": "cls"}
_FAILURES = (OSError, EOFError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError, UnpicklingError)


@dataclass
class Source:
    """A folder or hub id, and how to read it."""

    name: str
    revision: str | None = None
    tokenizer: dict[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of transformers' ``from_pretrained``."""
        return {"revision": self.revision or "main", "trust_remote_code": self.trust_remote_code}

    def find(self, filename: str) -> str | None:
        """Local path of one of its files, None where it has no such file, or none that can be reached."""
        return cached_file(
            self.name,
            filename,
            revision=self.revision or "main",
            _raise_exceptions_for_missing_entries=False,
            # Offline, a file that was not downloaded may be one that does not exist.
            _raise_exceptions_for_connection_errors=False,
        )

    def json(self, filename: str) -> dict | None:
        """Content of one of its JSON files, None where it has no such file."""
        path = self.find(filename)
        if path is None:
            return None
        with open(path, encoding="utf-8") as file:
            return json.load(file)

    def weights(self, *filenames: str) -> dict[str, Tensor]:
        """Content of the first of its weight files that there is.

        Raises:
            FileNotFoundError: it has none of them.
        """
        for filename in filenames:
            if path := self.find(filename):
                if filename.endswith(".safetensors"):
                    return load_file(path)
                return torch.load(path, map_location="cpu", weights_only=True)
        raise FileNotFoundError(f"none of its weight files {', '.join(filenames)} is there")


def read_tower(source: Source, pooling: str, with_projection: bool) -> Tower:
    """Read a text encoder.

    Args:
        pooling: of the caller; a projection is only right behind the pooling that it was trained with.
        with_projection: keep the checkpoint's projection.

    Raises:
        CTVLMError: it cannot be read, some of the encoder's weights are missing, or it has no projection of the kind
            asked for.
    """
    try:
        with quiet_transformers():
            open_clip = source.json("open_clip_config.json")
            if open_clip is not None:
                tower = _read_open_clip(source, open_clip, pooling, with_projection)
            else:
                tower = _read_transformers(source, pooling, with_projection)
        _check_tokenizer(tower)
    except CTVLMError:
        raise
    except _FAILURES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if os.path.isdir(source.name):
            reason += " Expected config.json (or open_clip_config.json), weights and tokenizer files in that folder."
        else:
            reason += (
                " There is no such folder here, so it was looked up as a hub id. Without network (or with "
                "HF_HUB_OFFLINE=1) only what was downloaded before is found: fetch it once where there is network, "
                f"with `hf download {source.name} --local-dir FOLDER`, and set text_encoder.pretrained=FOLDER."
            )
        raise CTVLMError(f"text encoder '{source.name}' cannot be loaded: {reason}") from error
    return tower


def _read_transformers(source: Source, pooling: str, with_projection: bool) -> Tower:
    raw, _ = PreTrainedConfig.get_config_dict(source.name, revision=source.revision or "main")
    if "model_type" not in raw:
        raise ValueError("its config.json is not there or states no model_type.")
    model_type = raw["model_type"]
    plain = _PLAIN.get(model_type)
    if plain is not None and not source.trust_remote_code:
        ours = {key: value for key, value in raw.items() if key not in ("model_type", "auto_map", "architectures")}
        config = AutoConfig.for_model(plain, **ours)
    elif model_type not in CONFIG_MAPPING and not source.trust_remote_code:
        raise CTVLMError(
            f"text encoder '{source.name}' is of type '{model_type}', which transformers knows only through code in "
            "that repository. Read the code, and set text_encoder.trust_remote_code=True to run it."
        )
    else:
        config = AutoConfig.from_pretrained(source.name, **source.options)
    if hasattr(config, "vision_config"):
        raise CTVLMError(
            f"'{source.name}' is a {model_type} of images and texts, not a text encoder: save its text model on its own"
        )
    auto, kwargs = model_class(config)
    model, info = auto.from_pretrained(
        source.name, config=config, dtype=torch.float32, output_loading_info=True, **source.options, **kwargs
    )
    shapes, projection = [], build_projection([])
    if with_projection:
        weights = source.weights("model.safetensors", "pytorch_model.bin")
        # CXR-BERT's head for its joint space with images (Boecking et al., ECCV 2022): behind the CLS token.
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
    text_cfg = settings.get("model_cfg", settings).get("text_cfg", {})
    architecture = text_cfg.get("hf_model_name")
    if architecture is None:
        raise CTVLMError(f"the text tower of '{source.name}' is open_clip's own, not a transformers encoder")
    # The folder may hold the architecture's config.json; else only that file of the model named is read.
    has_config = source.find("config.json") is not None
    try:
        config = AutoConfig.from_pretrained(source.name if has_config else architecture, trust_remote_code=False)
    except OSError as error:
        raise CTVLMError(
            f"text encoder '{source.name}': its text tower has the architecture of '{architecture}', whose config.json "
            f"cannot be read here ({' '.join(str(error).split())}): put that one file beside the weights"
        ) from error
    auto, kwargs = model_class(config)
    model = auto.from_config(config, dtype=torch.float32, trust_remote_code=False, **kwargs)
    weights = source.weights("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    weights = weights.get("state_dict", weights)
    found = {
        key.removeprefix("text.transformer."): w for key, w in weights.items() if key.startswith("text.transformer.")
    }
    missing, unexpected = model.load_state_dict(found, strict=False)
    rest = [key for key in weights if not key.startswith(("text.transformer.", "text.proj."))]

    shapes, projection = [], build_projection([])
    if with_projection:
        head = {key.removeprefix("text.proj."): w for key, w in weights.items() if key.startswith("text.proj.")}
        pooler = text_cfg.get(
            "hf_pooler_type", "cls_pooler"
        )  # open_clip's default for BERT: a layer behind the CLS token
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
    # Naming the type keeps transformers from looking for a tokenizer's custom code.
    named = {"tokenizer_type": model_type} if model_type else {}
    return AutoTokenizer.from_pretrained(source.name, **named, **source.tokenizer, **source.options)


def _check_tokenizer(tower: Tower) -> None:
    tokenizer, size = tower.tokenizer, tower.model.get_input_embeddings().num_embeddings
    ids = tokenizer("no pleural effusion in the left lung", add_special_tokens=False)["input_ids"]
    if not ids or set(ids) == {tokenizer.unk_token_id}:
        raise ValueError(f"its tokenizer ({type(tokenizer).__name__}, {len(tokenizer)} pieces) knows no word")
    if len(tokenizer) > size:
        raise ValueError(f"its tokenizer has {len(tokenizer)} pieces, its model only embeds {size}")


def _report(source: Source, model: torch.nn.Module, missing: Any, unexpected: Any) -> str:
    expected = model.state_dict()
    missing = sorted(key for key in missing if not any(part in key for part in _EXPENDABLE))
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(expected)} weights of {type(model).__name__} are not in it: {missing[:3]}."
        )
    # By the parts of the checkpoint that were left: "cls 7, bert.pooler 2".
    left = Counter(
        ".".join(key.split(".")[:2]) if "pooler" in key else key.split(".")[0]
        for key in unexpected
        if "position_ids" not in key
    )
    unused = ", ".join(f"{name} {number}" for name, number in sorted(left.items())) or "none"
    return f"{source.name}: all {len(expected)} weights of {type(model).__name__} found; not used: {unused}"


def _no_projection(source: Source, trained_with: str | None, pooling: str) -> str:
    if trained_with is None:
        return f"text encoder '{source.name}' has no projection: set text_encoder.projection=False"
    return (
        f"the projection of text encoder '{source.name}' was trained behind '{trained_with}' pooling, found "
        f"text_encoder.pooling='{pooling}': set that, or text_encoder.projection=False"
    )
