"""Files of features: .npz or safetensors per case, or one Parquet table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.numpy

from ctvlm.apis.save_cases import CaseWriter
from ctvlm.utils import CTVLMError, atomic_write

if TYPE_CHECKING:
    from ctvlm.apis.feature_extractor import VolumeFeatures

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class FeatureWriter(CaseWriter):
    """Embeddings of a case; ``patches`` adds those of the patches, which are much larger.

    Arrays: ``volume`` (P), ``regions`` (R, P), ``region_mask`` (R, False where the region is not in the volume). With
    patches also ``patches`` (N, P), ``patch_mask`` (N), ``patch_to_region`` (N, R + 1), ``grid`` (d, h, w) and
    ``affine`` (4x4, patch index x y z to the centre of the patch in mm, RAS+). The record has ``region_names``.
    """

    patches: bool = False

    @property
    def settings(self) -> list[Any]:
        return [*super().settings, self.patches]

    def arrays(self, features: VolumeFeatures) -> Arrays:
        """Arrays of one case, float32."""
        out = dict(
            volume=features.volume.numpy(),
            regions=features.regions.numpy(),
            region_mask=features.region_mask.numpy(),
        )
        if self.patches:
            out |= dict(
                patches=features.patches.numpy(),
                patch_mask=features.patch_mask.numpy(),
                patch_to_region=features.patch_to_region.numpy(),
                grid=np.array(features.grid),
                affine=features.affine,
            )
        return out


@dataclass(frozen=True)
class NpzWriter(FeatureWriter):
    """One .npz per case; the array ``record`` is JSON."""

    suffix = ".npz"

    def write(self, result: Any, path: Path, record: dict[str, Any]) -> None:
        text = json.dumps({**record, "region_names": result.region_names})
        with atomic_write(path) as part, open(part, "wb") as file:
            arrays: dict[str, Any] = {**self.arrays(result), "record": np.array(text)}
            np.savez(file, **arrays)

    def read_record(self, path: Path) -> dict[str, Any]:
        with np.load(path, allow_pickle=False) as data:
            # Reading verifies the CRC-32 of an array.
            return json.loads(str({name: data[name] for name in data}["record"]))


@dataclass(frozen=True)
class SafetensorsWriter(FeatureWriter):
    """One .safetensors per case; the metadata key ``record`` is JSON."""

    suffix = ".safetensors"

    def write(self, result: Any, path: Path, record: dict[str, Any]) -> None:
        text = json.dumps({**record, "region_names": result.region_names})
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays(result).items()}
        metadata = {"record": text, "sha256": _sha256(arrays, text)}
        with atomic_write(path) as part:
            safetensors.numpy.save_file(arrays, part, metadata=metadata)

    def read_record(self, path: Path) -> dict[str, Any]:
        with safetensors.safe_open(path, "np") as data:
            metadata = data.metadata()
            arrays = {name: data.get_tensor(name) for name in data.keys()}  # noqa: SIM118  not a dict
        return json.loads(metadata["record"]) if metadata["sha256"] == _sha256(arrays, metadata["record"]) else {}


def _sha256(arrays: Arrays, text: str) -> str:
    """Digest of arrays and a text, in the order of their names."""
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


WRITERS: dict[str, type[FeatureWriter]] = {"npz": NpzWriter, "safetensors": SafetensorsWriter}
FORMATS = (*WRITERS, "parquet")
# Cases per row group of a Parquet table.
CASES_PER_GROUP = 256


def write_table(paths: Sequence[Path], out: Path) -> None:
    """Write a Parquet table from .npz files: one row per volume and per region that is in it.

    Columns: ``case_id``, ``input`` (path of the CT), ``name`` ("volume" or a region) and ``embedding`` (P floats).

    Raises:
        CTVLMError: pyarrow is not installed.
    """
    pa, parquet = pyarrow_modules()
    names = [(key, pa.string()) for key in ("case_id", "input", "name")]
    with atomic_write(out) as part:
        file = None
        try:
            for start in range(0, len(paths), CASES_PER_GROUP):
                rows = [row for path in paths[start : start + CASES_PER_GROUP] for row in _rows(path)]
                vector = pa.list_(pa.float32(), len(rows[0]["embedding"]))
                schema = pa.schema([*names, ("embedding", vector)])
                file = file or parquet.ParquetWriter(part, schema, write_page_checksum=True)
                file.write_table(pa.Table.from_pylist(rows, schema))
        finally:
            if file is not None:
                file.close()


def pyarrow_modules() -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet.

    Raises:
        CTVLMError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise CTVLMError("Parquet needs pyarrow: pip install 'ctvlm[parquet]'") from None
    return pyarrow, pyarrow.parquet


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with np.load(path, allow_pickle=False) as data:
        record, regions, mask = json.loads(str(data["record"])), data["regions"], data["region_mask"]
        common = dict(case_id=record["case_id"], input=record["input"])
        yield dict(common, name="volume", embedding=data["volume"])
    for name, embedding, present in zip(record["region_names"], regions, mask, strict=True):
        if present:
            yield dict(common, name=name, embedding=embedding)
