"""Released models: a folder with weights, config, tokenizers, region scheme and model card.

========================  ===============================================================================
``model.safetensors``     all weights, in half or full precision
``config.json``           ``config`` (complete), ``training_data``, ``tasks``, ``precision``, ``sha256`` ...
``tokenizer*.json``       tokenizers that were fitted to the training texts
``region_scheme.json``    the region scheme of the model
``README.md``             model card
========================  ===============================================================================

The folder contains data only: reading it neither executes nor imports anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors, save as save_safetensors
from torch import Tensor

from ctvlm.engine.checkpoint.files import CheckpointError, json_text, non_finite_weights, read_checkpoint
from ctvlm.engine.checkpoint.model_tasks import model_tasks
from ctvlm.engine.checkpoint.portable_config import SCHEME_FILE, file_name, portable_config, restore_scheme
from ctvlm.engine.checkpoint.renames import present_weight_names
from ctvlm.engine.checkpoint.upgrade import upgrade_config
from ctvlm.text.tokenizer import from_bytes, to_bytes
from ctvlm.utils.atomic import write_together
from ctvlm.utils.pretrained_files import KEY as PRETRAINED, pack_files, unpack_files
from ctvlm.utils.weight_match import plain_names
from ctvlm.version import __version__

WEIGHTS, CONFIG, CARD, TOKENIZER = "model.safetensors", "config.json", "README.md", "tokenizer.json"
FORMAT = 1
_TOKENIZER_KEY = "tokenizer_bytes"
_INFO_KEYS = {"config": dict, "training_data": list, "precision": str, "sha256": dict, "tokenizers": dict}


@dataclass(frozen=True)
class Release:
    """Content of a released folder.

    Attributes:
        config: with the test pipeline; ``scheme`` refers to an installed scheme or to the file in the folder.
        state_dict: weights in full precision, and the tokenizers.
        info: the other content of ``config.json``.
    """

    folder: Path
    config: Config
    state_dict: dict[str, Tensor]
    info: dict[str, Any]

    @property
    def training_data(self) -> list[dict]:
        """Records of the data that the weights were trained on, see ``ctvlm.utils.training_data``."""
        return self.info["training_data"]


def is_release(path: str | Path) -> bool:
    """Whether a path is a folder with the ``config.json`` of a released model."""
    return (Path(path).expanduser() / CONFIG).is_file()


def write_release(
    folder: str | Path,
    config: Config,
    state_dict: Mapping[str, Tensor],
    training_data: Sequence[dict],
    half: bool = False,
    card: str = "",
) -> Path:
    """Write a released model. Files of an earlier release in the folder are replaced.

    Args:
        config: complete config of the model, see ``portable_config``.
        training_data: records of the data that the weights were trained on.
        half: store the weights as float16. They are always loaded as float32.
        card: content of ``README.md``; empty: no card is written.

    Raises:
        CheckpointError: as ``portable_config``, or a weight exceeds the range of float16.
    """
    folder = Path(folder).expanduser()
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; expected a folder for the released model")
    content, scheme = portable_config(config)
    weights, tokenizers = _split(plain_names(dict(state_dict)))
    files = {WEIGHTS: save_safetensors(_stored(weights, half), metadata={"format": "pt"})}
    files |= {name: text.encode() for name, (_, text) in tokenizers.items()}
    files[SCHEME_FILE] = scheme.file.read_bytes()
    parameters = sum(value.numel() for key, value in weights.items() if value.is_floating_point())
    info = dict(
        library_name="ctvlm",
        format=FORMAT,
        ctvlm_version=__version__,
        tasks=model_tasks(content),
        parameters=parameters,
        precision="float16" if half else "float32",
        training_data=list(training_data),
        tokenizers={name: key for name, (key, _) in tokenizers.items()},
        sha256={name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        config=content,
    )
    if card:
        files[CARD] = card.encode()
    write_together(folder, {**files, CONFIG: json_text(info).encode()}, last=CONFIG)
    for old in {folder / CARD, *folder.glob("tokenizer*.json")} - {folder / name for name in files}:
        old.unlink(missing_ok=True)
    return folder


def read_release_info(folder: str | Path) -> dict[str, Any]:
    """Content of ``config.json``, without reading the weights.

    Raises:
        CheckpointError: the folder or the file is missing, or is not of a released ctvlm model.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise CheckpointError(f"released model not found: {folder} is not a folder")
    if not is_release(folder):
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
        raise CheckpointError(
            f"{folder} is not a released model: it has no {CONFIG} (found {found}). Expected a folder written by "
            "tools/model_converters/publish.py"
        )
    try:
        info = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{folder / CONFIG} is damaged: {error}. Copy or download it again") from error
    wrong = [
        key for key, kind in _INFO_KEYS.items() if not isinstance(info, dict) or not isinstance(info.get(key), kind)
    ]
    if wrong:
        raise CheckpointError(
            f"{folder / CONFIG} is not the config of a released ctvlm model: it has no {', '.join(wrong)}. Expected a "
            "folder written by tools/model_converters/publish.py"
        )
    if info.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder / CONFIG}: found format {info.get('format')!r}, written by ctvlm {info.get('ctvlm_version')}; "
            f"ctvlm {__version__} reads format {FORMAT}. Install a newer ctvlm"
        )
    return info


def read_release(folder: str | Path) -> Release:
    """Read a released model.

    Raises:
        CheckpointError: the folder is not a released model, a file is missing, its content differs from the checksum
            in ``config.json``, or a weight is not finite.
    """
    folder = Path(folder).expanduser()
    info = read_release_info(folder)
    for name in (WEIGHTS, SCHEME_FILE, *info["tokenizers"]):
        if name not in info["sha256"]:
            raise CheckpointError(f"{folder / CONFIG}: sha256 has no {name}. Copy or download it again")
    files = {name: _read_checked(folder, name, digest) for name, digest in info["sha256"].items()}
    try:
        loaded = load_safetensors(files[WEIGHTS])
    except SafetensorError as error:
        raise CheckpointError(f"{folder / WEIGHTS} is not a safetensors file: {error}") from error
    if broken := non_finite_weights(loaded):
        raise CheckpointError(f"{folder / WEIGHTS}: {len(broken)} weights contain NaN or infinity, such as {broken[0]}")
    state_dict = {key: _full(value) for key, value in loaded.items()}
    state_dict |= {key: to_bytes(files[name].decode()) for name, key in info["tokenizers"].items()}
    config = Config(restore_scheme(info["config"], folder / SCHEME_FILE), filename=str(folder / CONFIG))
    return Release(folder, upgrade_config(config), present_weight_names(state_dict), info)


def read_weights(path: str | Path, map_location: Any = "cpu") -> dict:
    """Read a checkpoint file, or a released model as a checkpoint with ``state_dict`` and ``meta``.

    Raises:
        CheckpointError: as ``read_checkpoint`` and ``read_release``.
    """
    if not Path(path).expanduser().is_dir():
        return read_checkpoint(path, map_location)
    release = read_release(path)
    return dict(state_dict=release.state_dict, meta=dict(training_data=release.training_data))


def _read_checked(folder: Path, name: str, digest: str) -> bytes:
    if Path(name).name != name:
        raise CheckpointError(f"{folder / CONFIG}: found the file {name!r}; expected a name without a folder")
    if not (folder / name).is_file():
        raise CheckpointError(f"{folder} is incomplete: {name} is missing. Copy or download the folder again")
    data = (folder / name).read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != digest:
        raise CheckpointError(
            f"{folder / name} is damaged ({len(data):,} bytes): found sha256 {found[:12]}, expected {digest[:12]} "
            f"({CONFIG}). Copy or download it again"
        )
    return data


def _split(state_dict: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, tuple[str, str]]]:
    """Weights, and file name to (key, text) of each fitted tokenizer. Paths of pretrained parts are removed."""
    weights, tokenizers = {}, {}
    for key, value in state_dict.items():
        name = key.rpartition(".")[2]
        if name == _TOKENIZER_KEY and value.numel():
            tokenizers[_tokenizer_file(key)] = (key, from_bytes(value))
        elif name == PRETRAINED and value.numel():
            source, packed = unpack_files(value)
            weights[key] = pack_files(file_name(source), packed)
        else:
            weights[key] = value
    return weights, tokenizers


def _tokenizer_file(key: str) -> str:
    """``tokenizer.json`` of the text encoder; ``tokenizer_generation.json`` of the objective ``generation``."""
    part = key.rpartition(".")[0].removeprefix("objectives.").removesuffix(".head")
    return TOKENIZER if part == "text_encoder" else f"tokenizer_{part.replace('.', '_')}.json"


def _stored(weights: dict[str, Tensor], half: bool) -> dict[str, Tensor]:
    """Weights as they are stored; copies, because safetensors refuses tensors that share memory."""
    stored = {}
    for key, value in weights.items():
        stored[key] = value.detach().to("cpu", copy=True).contiguous()
        if not half or not value.is_floating_point():
            continue
        stored[key] = stored[key].to(torch.float16)
        if bool((stored[key].isinf() & value.cpu().isfinite()).any()):
            raise CheckpointError(
                f"{key}: found values up to {value.abs().max():.3g}; expected at most 65,504 in half precision. Write "
                "full precision"
            )
    return stored


def _full(value: Tensor) -> Tensor:
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
