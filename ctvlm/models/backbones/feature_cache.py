"""Cache on disk for the features of a frozen tower, one file per volume."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import MessageHub
from torch import Tensor, nn

from ctvlm.models.backbones import tower_canvas
from ctvlm.utils import WriteError, atomic_write

_MAGIC = b"ctvlm features 1"
_SUM = 16
# Half precision is stored if its relative error is below this value. Features of towers have 2.1e-4.
_HALF = 1e-3
_FIRST = 8  # volumes of the second epoch that show whether the cache is of use


class FeatureCache:
    """Features (N, E) by tower and volume, in files ``folder/FINGERPRINT/KEY.features``.

    The fingerprint is a hash of the tower: config, weights, source of its modules, input convention, patch size and
    precision of autocast. The key is a hash of the volume's values, type, shape and spacing, so a crop, an augmented
    volume and a reused case id are other entries. Volumes have one orientation in ctvlm.

    Values are stored in half precision, or in single precision where half precision has a relative error above 1e-3.
    The stored values are returned in both cases, so all epochs have the same features.

    Processes can share the folder: files are written atomically, and a file that exists is kept. A file with a wrong
    size or checksum is replaced. A file that cannot be read or written (full disk) is a warning, and its features are
    computed each time.

    Args:
        folder: of all towers.
        config: of the tower; it has settings that weights do not show, such as the number of heads.
    """

    def __init__(self, folder: str | Path, config: dict[str, Any]) -> None:
        self.folder = Path(folder).expanduser()
        self._config = json.dumps(config, sort_keys=True, default=str)
        self._hashed: tuple[list, str] | None = None
        self._epochs: list[int] = []
        self._looked_up = self._missed = 0

    def get(
        self,
        hu_DHW: Tensor,
        patch_mm_3: Tensor,
        shape: tuple[int, int],
        fingerprint: str,
        compute: Callable[[], Tensor],
    ) -> Tensor:
        """Features of a volume, which ``compute`` returns in single precision if they are not in the cache.

        Args:
            patch_mm_3: size of a patch in mm (z, y, x).
            shape: (N, E).
            fingerprint: of ``fingerprint``.
        """
        key = volume_key(hu_DHW, patch_mm_3)
        path = self.folder / fingerprint / f"{key.hex()}.features"
        existed = os.path.exists(path)
        features_NE = self._load(path, key, shape)
        self._count(features_NE is None)
        if features_NE is not None:
            return features_NE.to(hu_DHW.device)
        computed_NE = compute()
        half_NE = computed_NE.half()
        # False for values beyond the range of half precision, too.
        safe = bool((half_NE.float() - computed_NE).norm() <= _HALF * computed_NE.norm())
        stored_NE = half_NE if safe else computed_NE
        # A file that another process wrote in the meantime is kept, a damaged one is replaced.
        if bool(stored_NE.isfinite().all()) and (existed or not os.path.exists(path)):
            self._save(path, key, stored_NE)
        return stored_NE.float()

    def fingerprint(self, tower: nn.Module, *settings: object) -> str:
        """Hash of the tower and of further settings that determine the features."""
        weights = tower.state_dict()
        # Hashing takes seconds for a large tower. Loading, moving and changing weights change these numbers.
        stamp = [(w.data_ptr(), w.dtype, None if w.is_inference() else w._version) for w in weights.values()]
        if self._hashed is None or self._hashed[0] != stamp:
            digest = hashlib.blake2b(self._config.encode(), digest_size=16)
            for name, weight in sorted(weights.items()):
                digest.update(f"{name} {weight.dtype} {tuple(weight.shape)} ".encode())
                digest.update(_bytes(weight))
            names = {type(module).__module__ for module in tower.modules()} | {tower_canvas.__name__}
            for name in sorted(name for name in names if not name.startswith("torch.")):
                source = getattr(sys.modules.get(name), "__file__", None)
                digest.update(name.encode() + (Path(source).read_bytes() if source else b""))
            self._hashed = stamp, digest.hexdigest()
        return hashlib.blake2b(f"{self._hashed[1]} {settings}".encode(), digest_size=16).hexdigest()

    def _load(self, path: Path, key: bytes, shape: tuple[int, int]) -> Tensor | None:
        try:
            size = path.stat().st_size - len(_MAGIC) - _SUM
            kind = {shape[0] * shape[1] * width: f"<f{width}" for width in (2, 4)}.get(size)
            content = path.read_bytes() if kind else b""
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn("read", error)
            return None
        values = content[len(_MAGIC) + _SUM :]
        if content[: len(_MAGIC) + _SUM] != _MAGIC + _checksum(key, values):
            warnings.warn(f"{path} is damaged or of another program; it is computed again and replaced", stacklevel=2)
            return None
        return torch.from_numpy(np.frombuffer(values, dtype=kind).astype("f4").reshape(shape))

    def _save(self, path: Path, key: bytes, features_NE: Tensor) -> None:
        values = _bytes(features_NE)
        try:
            with atomic_write(path) as part:
                part.write_bytes(_MAGIC + _checksum(key, values) + values)
        except WriteError as error:
            self._warn("written", error)

    def _warn(self, what: str, error: OSError) -> None:
        # One text for all volumes, so that it is printed once.
        warnings.warn(
            f"the cache of features {self.folder} cannot be {what} ({os.strerror(error.errno or 0)}); features are "
            "computed each time. Set backbone.cache_dir to another folder, or to None",
            stacklevel=2,
        )

    def _count(self, missed: bool) -> None:
        """Warn in the second epoch of this process if half of its first volumes are not in the cache."""
        epoch = MessageHub.get_current_instance().get_info("epoch")
        if epoch is None or (len(self._epochs) == 2 and epoch != self._epochs[1]):
            return
        if epoch not in self._epochs:
            self._epochs.append(epoch)
            self._looked_up = self._missed = 0
        self._looked_up += 1
        self._missed += missed
        if len(self._epochs) == 2 and self._looked_up == _FIRST and 2 * self._missed >= _FIRST:
            warnings.warn(
                f"{self._missed} of the first {_FIRST} volumes of the second epoch are not in the cache of features "
                f"{self.folder}. Random augmentation makes each volume new: remove it from the training "
                "pipeline, or set backbone.cache_dir to None. Processes of several machines must share the folder",
                stacklevel=2,
            )


def volume_key(hu_DHW: Tensor, patch_mm_3: Tensor) -> bytes:
    """Hash of a volume's values, type, shape, and patch size in mm."""
    digest = hashlib.blake2b(f"{hu_DHW.dtype} {tuple(hu_DHW.shape)} ".encode(), digest_size=16)
    digest.update(_bytes(patch_mm_3))
    digest.update(_bytes(hu_DHW))
    return digest.digest()


def _bytes(values: Tensor) -> bytes:
    return values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _checksum(key: bytes, values: bytes) -> bytes:
    return hashlib.blake2b(key + values, digest_size=_SUM).digest()
