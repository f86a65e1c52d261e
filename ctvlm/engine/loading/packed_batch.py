"""A batch that travels from a data worker as one tensor."""

from __future__ import annotations

import io
import math
import pickle
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from ctvlm.utils import DataWorkerError

# Tensors begin at multiples of this many bytes.
_ALIGNMENT = 64
# Tensors up to this many bytes are copied, so that one that is kept (a label) does not keep the batch in memory.
_COPIED = 2**16


class _Place(NamedTuple):
    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def stop(self) -> int:
        return self.start + math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class PackedBatch:
    """A batch whose tensors are parts of one tensor.

    A data worker sends each tensor through shared memory, with a file descriptor of its own. A batch of 256 cases has
    thousands, and a process usually may have 1024.

    Attributes:
        data: bytes of all tensors.
        places: start, dtype and shape of each tensor.
        rest: the batch, pickled, with references to the tensors.
    """

    data: Tensor
    places: list[_Place]
    rest: bytes

    @classmethod
    def pack(cls, batch: Any) -> PackedBatch:
        """Pack a batch of any structure. Tensors become contiguous; subclasses of Tensor are sent as before.

        In a data worker the tensors are written to shared memory at once.

        Raises:
            DataWorkerError: there is no shared memory.
        """
        stream = io.BytesIO()
        packer = _Packer(stream)
        packer.dump(batch)
        data = torch.empty(packer.size, dtype=torch.uint8) if get_worker_info() is None else _shared(packer.size)
        for tensor, place in zip(packer.tensors, packer.places, strict=True):
            _view(data, place).copy_(tensor)
        return cls(data, packer.places, stream.getvalue())

    def unpack(self) -> Any:
        """The batch."""
        return _Unpacker(self).load()

    def pin_memory(self, device: Any = None) -> PackedBatch:
        """The batch in pinned memory. DataLoader calls this."""
        return PackedBatch(self.data.pin_memory(), self.places, self.rest)


class _Packer(ForkingPickler):
    """Pickles a batch, and collects its tensors.

    Attributes:
        size: number of bytes of the tensors.
    """

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, pickle.HIGHEST_PROTOCOL)
        self.size = 0
        self.tensors: list[Tensor] = []
        self.places: list[_Place] = []
        self._numbers: dict[int, int] = {}

    def persistent_id(self, obj: Any) -> int | None:
        if type(obj) is not Tensor or not _is_plain(obj):
            return None
        number = self._numbers.setdefault(id(obj), len(self.tensors))
        if number == len(self.tensors):
            start = -(-self.size // _ALIGNMENT) * _ALIGNMENT
            self.places.append(_Place(start, obj.dtype, tuple(obj.shape)))
            self.tensors.append(obj)  # kept, because its id identifies it
            self.size = self.places[-1].stop
        return number


class _Unpacker(pickle.Unpickler):
    def __init__(self, packed: PackedBatch) -> None:
        super().__init__(io.BytesIO(packed.rest))
        self._tensors = [_part(packed.data, place) for place in packed.places]

    def persistent_load(self, pid: int) -> Tensor:
        return self._tensors[pid]


def _shared(size: int) -> Tensor:
    # Otherwise a thread of the worker would copy the batch to shared memory, and an error there loses the batch.
    try:
        storage = torch.UntypedStorage._new_shared(size)
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise DataWorkerError(
            f"no shared memory for a batch of {size / 2**20:.1f} MiB ({text}). Enlarge /dev/shm, raise the limit of "
            "open files (ulimit -n), or lower num_workers or batch_size of the data loader"
        ) from error
    return torch.empty(0, dtype=torch.uint8).set_(storage)


def _is_plain(tensor: Tensor) -> bool:
    cpu = tensor.device.type == "cpu" and tensor.layout == torch.strided
    return cpu and not tensor.requires_grad and not tensor.is_quantized and not vars(tensor)


def _view(data: Tensor, place: _Place) -> Tensor:
    return data[place.start : place.stop].view(place.dtype).view(place.shape)


def _part(data: Tensor, place: _Place) -> Tensor:
    part = _view(data, place)
    return part.clone() if place.stop - place.start <= _COPIED else part
