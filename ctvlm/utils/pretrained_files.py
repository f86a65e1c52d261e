"""Files of a pretrained component (config, tokenizer) inside the state dict.

They allow to rebuild a model from its checkpoint on a machine without access to the original folder or hub id.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from ctvlm.utils.errors import CTVLMError
from ctvlm.utils.limits import excess_bytes

KEY = "pretrained_files"  # name of the buffer
_SOURCE = "source.json"
_stored: ContextVar[dict[str, dict[str, bytes]] | None] = ContextVar("stored_pretrained_files", default=None)
_loads_weights: ContextVar[bool] = ContextVar("loads_weights", default=False)


def pack_files(source: str, files: Mapping[str, bytes]) -> Tensor:
    """Pack files into a zip archive in a uint8 tensor, to be registered as a buffer named ``KEY``.

    Equal files give equal bytes: the archive contains no times and is sorted by name.
    """
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in [(_SOURCE, json.dumps(source).encode()), *sorted(files.items())]:
            target.writestr(zipfile.ZipInfo(name), content, compress_type=zipfile.ZIP_DEFLATED)
    return torch.frombuffer(bytearray(archive.getvalue()), dtype=torch.uint8)


def unpack_files(packed: Tensor) -> tuple[str, dict[str, bytes]]:
    """Inverse of ``pack_files``; returns the source and its files.

    Raises:
        CTVLMError: the tensor is not such an archive, or its files are larger than CTVLM_MAX_BYTES.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(packed.cpu().numpy().tobytes())) as archive:
            if problem := excess_bytes(sum(record.file_size for record in archive.infolist())):
                raise CTVLMError(f"{KEY}: found {problem[0]}; expected {problem[1]}. {problem[2]}")
            files = {name: archive.read(name) for name in archive.namelist()}
        return str(json.loads(files.pop(_SOURCE))), files
    except CTVLMError:
        raise
    except Exception as error:  # zipfile, its decompressors and json raise many types
        raise CTVLMError(f"{KEY}: cannot be read ({type(error).__name__}: {error}); use another checkpoint") from error


@contextmanager
def use_pretrained_files(state_dict: Mapping[str, Tensor]) -> Iterator[None]:
    """Context in which ``stored_files`` returns the files of a state dict, for building the model before loading."""
    packed = [value for key, value in state_dict.items() if key.rpartition(".")[2] == KEY and value.numel()]
    token, loads = _stored.set(dict(map(unpack_files, packed))), _loads_weights.set(bool(state_dict))
    try:
        yield
    finally:
        _stored.reset(token)
        _loads_weights.reset(loads)


def stored_files(source: str) -> dict[str, bytes] | None:
    """Files of a source in the state dict of the enclosing ``use_pretrained_files``; None if it has no such source."""
    return (_stored.get() or {}).get(source)


def pretrained_sources(state_dict: Mapping[str, Tensor]) -> list[str]:
    """Files, folders and hub ids of the pretrained parts of a model, by its state dict."""
    packed = [value for key, value in state_dict.items() if key.rpartition(".")[2] == KEY and value.numel()]
    return sorted({unpack_files(value)[0] for value in packed})


def take_packed_files(module: nn.Module, state_dict: Mapping[str, Tensor], prefix: str) -> None:
    """Register the packed files of a state dict as the buffer of the module that loads it.

    The buffer of the module may be absent, because its config names no files, or have another length. The default
    loading would refuse both.
    """
    if (saved := state_dict.get(prefix + KEY)) is not None:
        module.register_buffer(KEY, saved.to(next(module.parameters()).device, copy=True))


def loads_weights() -> bool:
    """Whether the model that is being built gets all its weights from the state dict of ``use_pretrained_files``."""
    return _loads_weights.get()
