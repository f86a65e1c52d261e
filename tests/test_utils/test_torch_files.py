"""Dumps and files in checkpoints that would take much more memory than the file has are refused."""

from __future__ import annotations

import io
import zipfile

import pytest
import torch

from ctvlm.evaluation import load_dump, save_dump
from ctvlm.utils import CTVLMError
from ctvlm.utils.pretrained_files import pack_files, unpack_files
from ctvlm.utils.torch_files import oversized_records, oversized_tensor


def dump(path, cases):
    """A dump with cases that save_dump would not write."""
    content = dict(format="ctvlm-predictions", version=2, cases=cases, prompts={}, scale=1.0, remark="")
    torch.save(content, path)
    return path


def runs(length: int, shape: list[int]) -> dict:
    return dict(run_lengths=torch.tensor([length]), run_values=torch.tensor([1], dtype=torch.uint8), shape=shape)


@pytest.mark.parametrize(
    "case",
    [
        {"region_map": runs(2**34, [2**4, 2**15, 2**15])},
        {"region_map": runs(2**34, [2, 2, 2])},
        {"region_map": runs(-8, [2, 2, 2])},
        {"region_map": runs(8, [-2, -2, 2])},
        {"region_map": dict(run_lengths=1, run_values=2, shape=3)},
        {"pred_volume": torch.zeros(1).expand(2**34)},
        {"deep": [{"pred_volume": torch.zeros(1).expand(2**20, 2**14)}]},
        ["not a case"],
    ],
)
def test_a_small_dump_of_huge_arrays_is_refused(tmp_path, case):
    path = dump(tmp_path / "a.pt", [case])
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match="a.pt"):
        load_dump(path)


@pytest.mark.parametrize("version", [None, "2", 3, 0])
def test_the_version_of_a_dump_is_checked(tmp_path, version):
    torch.save(dict(format="ctvlm-predictions", version=version), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="version"):
        load_dump(tmp_path / "a.pt")


def test_a_compressed_torch_file_is_refused(tmp_path):
    save_dump(tmp_path / "a.pt", [dict(case_id="a", pred_volume=torch.zeros(3_000_000))])
    assert oversized_records(tmp_path / "a.pt") is None
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as source,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for record in source.infolist():
            target.writestr(record.filename, source.read(record))
    assert (tmp_path / "b.pt").stat().st_size < 100_000
    with pytest.raises(ValueError, match="compression"):
        load_dump(tmp_path / "b.pt")


def test_expanded_tensors_of_usual_size_are_allowed():
    assert oversized_tensor({"ids": torch.arange(512).expand(1, 512), "mask": torch.ones(1).expand(1000)}) is None


def test_files_in_a_checkpoint_are_bounded(monkeypatch):
    packed = pack_files("org/model", {"a.json": bytes(10_000_000)})
    assert packed.numel() < 100_000 and unpack_files(packed)[0] == "org/model"
    monkeypatch.setenv("CTVLM_MAX_BYTES", "1000000")
    with pytest.raises(CTVLMError, match="CTVLM_MAX_BYTES"):
        unpack_files(packed)


@pytest.mark.parametrize("content", [b"", b"PK", None])
def test_damaged_files_in_a_checkpoint(content):
    if content is None:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("config.json", "{}")
        content = file.getvalue()
    with pytest.raises(CTVLMError, match="pretrained_files"):
        unpack_files(torch.frombuffer(bytearray(content or b"\0"), dtype=torch.uint8))


def test_many_label_maps_in_a_small_dump_are_refused(tmp_path, monkeypatch):
    path = dump(tmp_path / "a.pt", [{"region_map": runs(10**6, [100, 100, 100])}] * 50)
    assert len(load_dump(path)["cases"]) == 50
    monkeypatch.setenv("CTVLM_MAX_BYTES", "10000000")
    with pytest.raises(ValueError, match="CTVLM_MAX_BYTES=50000000"):
        load_dump(path)


def test_containers_that_are_deep_shared_or_cyclic():
    deep: list = [torch.zeros(1).expand(2**34)]
    for _ in range(5000):
        deep = [deep, deep]
    deep.append(deep)
    assert "CTVLM_MAX" in (oversized_tensor(deep) or "")


def test_an_encrypted_archive_in_a_checkpoint():
    content = bytearray(pack_files("org/model", {"a.json": b"{}"}).numpy().tobytes())
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = content.find(mark)
        while start >= 0:
            content[start + place] |= 1
            start = content.find(mark, start + 4)
    with pytest.raises(CTVLMError, match="pretrained_files"):
        unpack_files(torch.frombuffer(content, dtype=torch.uint8))
