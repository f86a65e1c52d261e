from __future__ import annotations

import random

import pytest
import torch

from ctvlm.utils.checksum import add_checksum, damage


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_every_flipped_bit_is_found_and_torch_ignores_the_checksum(tmp_path):
    path, copy = tmp_path / "x.pth", tmp_path / "copy.pth"
    torch.save({"a": torch.arange(500.0), "b": {"c": 1}}, path)
    add_checksum(path)
    assert damage(path) is None
    assert torch.load(path, weights_only=True)["a"].tolist() == torch.arange(500.0).tolist()
    content = path.read_bytes()
    bits = random.Random(0).sample(range(8 * len(content)), 300)
    ends = range(8 * (len(content) - 110), 8 * len(content))  # the end of the zip file and the checksum itself
    for bit in [*bits, *ends]:
        copy.write_bytes(flipped(content, bit))
        assert damage(copy), bit


def test_without_checksum_the_records_of_the_zip_file_are_verified(tmp_path):
    path = tmp_path / "x.pth"
    torch.save(torch.arange(500.0), path)
    assert damage(path) is None
    content = path.read_bytes()
    start = content.index(torch.arange(500.0).numpy().tobytes())
    path.write_bytes(flipped(content, 8 * (start + 100)))
    assert torch.load(path, weights_only=True).tolist() != torch.arange(500.0).tolist()  # torch does not notice
    assert "CRC-32" in damage(path)


def test_only_zip_files_without_comment_get_a_checksum(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"text")
    with pytest.raises(ValueError, match="not a zip file"):
        add_checksum(tmp_path / "x.pth")
    assert (tmp_path / "x.pth").read_bytes() == b"text"
