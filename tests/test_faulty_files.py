"""Every writer leaves the old or the complete new file on a full disk, after a short write and a failed rename.

The message names the file and the cause, and no temporary file stays. Readers notice changed bits.
"""

from __future__ import annotations

import errno
import io
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ctvlm.apis import RegionMap
from ctvlm.apis.feature_files import NpzWriter, SafetensorsWriter, write_table
from ctvlm.apis.region_segmenter import NiftiWriter
from ctvlm.apis.search_index import IndexedCase, SearchIndex
from ctvlm.datasets.manifest import write_manifest
from ctvlm.engine.checkpoint.files import AtomicLocalBackend, read_checkpoint
from ctvlm.engine.cli.metrics_table import write_metrics
from ctvlm.evaluation import load_dump
from ctvlm.evaluation.dump import save_dump
from ctvlm.evaluation.metrics.dump_predictions import DumpPredictions
from ctvlm.models.text_encoders.embedding_cache import EmbeddingCache
from ctvlm.phantom.disk_cache import DiskCache
from ctvlm.phantom.packed import PackedCase
from ctvlm.utils import WriteError
from ctvlm.volume import CTVolume, files, read_ct, write_nifti
from ctvlm.volume.store import encode
from tests.faults import FailingCalls, files_of, flip_bit, limited_files

RECORD = dict(fingerprint="f", case_id="a", input="a.nii.gz", key="a")


def array(version: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(version).normal(size=shape or (600,)).astype(np.float32)


def checkpoint(path: Path, version: int) -> None:
    content = io.BytesIO()
    torch.save({"state_dict": {"weight": torch.from_numpy(array(version))}, "meta": {}}, content)
    AtomicLocalBackend().put(content.getvalue(), path)


def dump(path: Path, version: int) -> None:
    save_dump(path, [{"case_id": "a", "pred_volume": torch.from_numpy(array(version))}])


def features(writer: type, path: Path, version: int) -> None:
    found = SimpleNamespace(
        volume=torch.from_numpy(array(version)),
        regions=torch.from_numpy(array(version, 2, 600)),
        region_mask=torch.tensor([True, False]),
        region_names=["liver", "spleen"],
    )
    writer(str(path.parent)).write(found, path, RECORD)


def table(path: Path, version: int) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'ctvlm[parquet]'")
    source = path.parent / "parts" / f"{version}.npz"
    if not source.is_file():
        features(NpzWriter, source, version)
    write_table([source], path)


def region_map(path: Path, version: int) -> None:
    labels = CTVolume(np.random.default_rng(version).integers(0, 3, (8, 16, 16), dtype=np.uint8), np.eye(4))
    RegionMap("a", labels, {1: "liver", 2: "spleen"}, "scheme", "predicted").save(path, {"version": version})


def manifest(path: Path, version: int) -> None:
    names = [f"{number}_{version}" for number in range(20)]
    write_manifest([dict(case_id=n, patient_id=n, split="train", volume=f"{n}.nii.gz") for n in names], path)


def stored(path: Path, version: int) -> None:
    files.write_bytes(path, encode(CTVolume(array(version, 8, 16, 16).astype(np.int16), np.eye(4))))


def page(path: Path, version: int) -> None:
    from ctvlm.cli import view_pages

    case = SimpleNamespace(entry=None)
    found = SimpleNamespace(case_id="a", remark="", steps=[])
    builder = SimpleNamespace(
        find=lambda *args, **kwargs: SimpleNamespace(notes=[], failures=[], cases=[case]),
        predict=lambda cases: [found],
        read=SimpleNamespace(read_case=lambda entry: entry),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view_pages, "PageBuilder", lambda **settings: builder)
        patch.setattr(view_pages, "niivue_module", lambda: "")
        patch.setattr(view_pages, "page_html", lambda page, size: f"version {version} " * 500)
        view_pages.write_page("a.nii.gz", None, None, {}, 1000, str(path))


def metrics(path: Path, version: int) -> None:
    write_metrics(path, {f"metric_{number}": float(version) for number in range(100)})


@dataclass(frozen=True)
class Kind:
    """A kind of file: how it is written, and what reading it gives (None: it has no checksum)."""

    name: str
    write: Callable[[Path, int], None]
    read: Callable[[Path], Any] | None = None


def test_metrics_are_kept_if_predictions_cannot_be_written(tmp_path):
    metric = DumpPredictions(str(tmp_path / "a.pt"))
    with limited_files(10):
        assert metric.score([{"sample": {"case_id": "a"}}]) == {"num_cases": 1}
    assert "a.pt: File too large" in str(metric.failure) and not files_of(tmp_path)


def read_dump(path: Path) -> Any:
    return load_dump(path)["cases"][0]["pred_volume"].tolist()


KINDS = {
    "checkpoint": Kind("epoch_1.pth", checkpoint, lambda p: read_checkpoint(p)["state_dict"]["weight"].tolist()),
    "predictions": Kind("predictions.pt", dump, read_dump),
    "npz": Kind("a.npz", lambda *a: features(NpzWriter, *a), lambda p: NpzWriter(str(p.parent)).record("a")),
    "safetensors": Kind(
        "a.safetensors",
        lambda *a: features(SafetensorsWriter, *a),
        lambda p: SafetensorsWriter(str(p.parent)).record("a"),
    ),
    "parquet": Kind("table.parquet", table),
    "regions": Kind("a.nii.gz", region_map, lambda p: NiftiWriter(str(p.parent)).record("a")),
    "nifti": Kind(
        "ct.nii.gz",
        lambda p, v: write_nifti(CTVolume((400 * array(v, 8, 16, 16)).astype(np.int16), np.eye(4)), p),
        lambda p: read_ct(p, check_range=False).array.tolist(),
    ),
    "manifest": Kind("manifest.jsonl", manifest),
    "store": Kind("volume.b2nd", stored),
    "page": Kind("page.html", page),
    "metrics_json": Kind("metrics.json", metrics),
    "metrics_csv": Kind("metrics.csv", metrics),
}


@pytest.fixture(params=KINDS)
def kind(request, tmp_path):
    """A kind, and its file with an old version."""
    found = KINDS[request.param]
    path = tmp_path / "out" / found.name
    found.write(path, 0)
    if request.param == "parquet":
        table(path.with_name("new.parquet"), 1)
        path.with_name("new.parquet").unlink()
    return found, path


@pytest.mark.parametrize("share", [0, 0.5, 0.9])
def test_a_full_disk(kind, share):
    """The disk takes a share of the new file, which also gives short writes."""
    found, path = kind
    before = files_of(path.parent)
    with limited_files(int(share * path.stat().st_size)), pytest.raises(WriteError) as caught:
        found.write(path, 1)
    message = str(caught.value)
    assert "\n" not in message and "File too large" in message and ".part_" not in message
    assert message.startswith(f"cannot write {path.parent}")
    assert files_of(path.parent) == before
    found.write(path, 1)
    assert files_of(path.parent) != before


@pytest.mark.parametrize(("call", "code"), [("replace", errno.EIO), ("open", errno.EROFS)])
def test_a_failed_rename_and_a_read_only_disk(kind, monkeypatch, call, code):
    found, path = kind
    before = files_of(path.parent)
    with monkeypatch.context() as patch:
        FailingCalls(patch, path.parent, (call,), code)
        with pytest.raises(WriteError, match=f"cannot write {path.parent}"):
            found.write(path, 1)
    after = files_of(path.parent)
    assert after[path.name] == before[path.name] and set(after) <= set(before)  # no temporary file


def test_a_slow_reader_gets_the_old_content(kind):
    found, path = kind
    before = path.read_bytes()
    with open(path, "rb", buffering=0) as reader:
        start = reader.read(10)
        found.write(path, 1)
        rest = b"".join(iter(lambda: reader.read(100), b""))
    assert start + rest == before and path.read_bytes() != before


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.read])
def test_a_changed_bit_is_noticed_or_without_effect(name, tmp_path):
    found, path = KINDS[name], tmp_path / KINDS[name].name
    found.write(path, 0)
    intact, content = path.read_bytes(), found.read(path)
    noticed = 0
    for position in np.linspace(0, 0.999, 60):
        flip_bit(path, position, bit=int(position * 1000) % 8)
        try:
            read = found.read(path)
        except Exception as error:  # every kind has its own
            assert str(path) in str(error), error
            noticed += 1
        else:
            assert read in (content, {})
            noticed += read == {}
        path.write_bytes(intact)
    assert noticed > 30


@pytest.fixture
def cache(tmp_path):
    from ctvlm.phantom.phantom_ct import PhantomCT

    data = PhantomCT(1, shape=(8, 24, 24), cache_dir=None, num_workers=0)
    job = data._job(data.get_data_info(0))
    return DiskCache(tmp_path / "cache"), job, PackedCase.draw(job)


def test_a_full_cache_of_phantoms_is_a_warning(cache, tmp_path):
    disk, job, case = cache
    with limited_files(100), pytest.warns(UserWarning, match="cannot be written.*File too large") as caught:
        disk.save(job, case)
    assert len(caught) == 1 and not files_of(tmp_path) and disk.load(job) is None
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="cannot be written"):
        DiskCache(tmp_path / "file").save(job, case)


def test_changed_bits_in_the_cache_of_phantoms_are_noticed(cache):
    disk, job, case = cache
    disk.save(job, case)
    path = disk.path(job)
    intact = path.read_bytes()
    for position in np.linspace(0, 0.999, 40):
        flip_bit(path, position)
        if (read := disk.load(job)) is not None:
            np.testing.assert_array_equal(read.volume, case.volume)
            assert read.lesion == case.lesion and read.cot == case.cot
        path.write_bytes(intact)


def test_a_full_cache_of_embeddings_is_a_warning(tmp_path):
    found = EmbeddingCache(tmp_path / "texts.sqlite", 64)
    found.put({"a": array(0, 64)})
    many = {f"text {number}": array(number, 64) for number in range(200)}
    with limited_files(20_000), pytest.warns(UserWarning, match="texts.sqlite cannot be used") as caught:
        found.put(many)
    assert len(caught) == 1
    assert set(found.get(["a", *many])) == {"a"} and list(files_of(tmp_path)) == ["texts.sqlite"]


def test_a_search_index_keeps_its_cases_on_a_full_disk(tmp_path):
    index = SearchIndex(tmp_path / "index", "model")
    index.append(array(0, 1, 64), [IndexedCase("a", "a", "a.nii.gz", "print", True)])
    before = files_of(tmp_path)
    with limited_files(100), pytest.raises(WriteError, match="part_00002.safetensors: File too large"):
        index.append(array(1, 1, 64), [IndexedCase("b", "b", "b.nii.gz", "print", True)])
    assert files_of(tmp_path) == before
    assert [case.case_id for case in SearchIndex(tmp_path / "index", "model").cases] == ["a"]
    flip_bit(tmp_path / "index" / "part_00001.safetensors", 0.8)
    with pytest.raises(Exception, match="part_00001.safetensors has changed"):
        SearchIndex(tmp_path / "index", "model")


def test_a_released_model_keeps_its_files_on_a_full_disk(released_model, tmp_path):
    from ctvlm.engine.checkpoint.release import read_release, write_release

    release = read_release(released_model)
    folder = write_release(tmp_path / "model", release.config, release.state_dict, release.training_data, card="old")
    before = files_of(folder)
    weights = {name: value + 1 if value.is_floating_point() else value for name, value in release.state_dict.items()}
    largest = max(map(len, before.values()))
    with limited_files(largest - 1), pytest.raises(WriteError, match="model.safetensors: File too large"):
        write_release(folder, release.config, weights, release.training_data, card="new")
    assert files_of(folder) == before


def test_a_journal_that_cannot_be_written_is_one_warning(tmp_path):
    from ctvlm.datasets.conversion.journal import Journal

    journal = Journal(tmp_path / "manifest.jsonl")
    journal.add("one", {"case": None})
    with warnings.catch_warnings(record=True) as caught, limited_files(40):
        warnings.simplefilter("always")
        for number in range(3):
            journal.add(f"more_{number}", {"case": None})
    journal.add("last", {"case": None})
    assert ["manifest.jsonl.progress: File too large" in str(w.message) for w in caught] == [True]
    lines = (tmp_path / "manifest.jsonl.progress").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["one", "last"]
