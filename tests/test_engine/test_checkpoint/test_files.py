from __future__ import annotations

import json
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from torch import nn

from ctvlm.engine.checkpoint.files import (
    AtomicLocalBackend,
    CheckpointError,
    read_checkpoint,
    to_plain,
    write_json,
)
from ctvlm.engine.checkpoint.message_hub import pack_message_hub, unpack_message_hub


def test_plain_containers_can_be_loaded_safely(tmp_path):
    content = {
        "a": np.float64(0.5),
        "b": [np.int64(3), (True, None)],
        "c": OrderedDict(d=np.arange(3), e=Path("x/y")),
        "f": {np.int64(1): torch.ones(2)},
    }
    torch.save(to_plain(content), tmp_path / "x.pth")
    loaded = torch.load(tmp_path / "x.pth", weights_only=True)
    assert loaded["a"] == 0.5 and loaded["b"] == [3, (True, None)] and loaded["c"]["e"] == str(Path("x/y"))
    assert loaded["c"]["d"].tolist() == [0, 1, 2] and loaded["f"][1].tolist() == [1, 1]


def test_other_types_are_an_error():
    with pytest.raises(TypeError, match=r"meta\.dataset\[1\].*Linear"):
        to_plain({"dataset": [0, nn.Linear(1, 1)]}, "meta")


def test_message_hub_is_restored(tmp_path, fresh_mmengine):
    hub = MessageHub.get_instance("saved")
    for value in (1.0, 2.5):
        hub.update_scalar("train/loss", value)
    hub.update_info("best_score", np.float32(0.5))
    hub.update_info("an_object", object())
    torch.save(pack_message_hub(hub.state_dict()), tmp_path / "hub.pth")

    restored = MessageHub.get_instance("restored")
    restored.load_state_dict(unpack_message_hub(torch.load(tmp_path / "hub.pth", weights_only=True)))
    assert restored.get_scalar("train/loss").data[0].tolist() == [1.0, 2.5]
    assert restored.get_scalar("train/loss").mean() == 1.75
    assert restored.get_info("best_score") == 0.5
    assert "an_object" not in restored.runtime_info


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "epoch_1.pth"
    AtomicLocalBackend().put(b"old", path)

    def full_disk(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        AtomicLocalBackend().put(b"new and longer", path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_contains_no_nan(tmp_path):
    write_json(tmp_path / "x.json", {"a": np.float32(0.5), "b": (float("nan"), torch.ones(2)), 3: None})
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"a": 0.5, "b": [None, [1.0, 1.0]], "3": None}


class Pickled:
    pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"epoch_2\.pth .*epoch_1\.pth"),
        (b"", r"epoch_2\.pth \(0 bytes\)"),
        (b"PK\x03\x04 cut off", r"epoch_2\.pth"),
        ({"state_dict": {}, "meta": Pickled()}, r"epoch_2\.pth .*Pickled"),
        ({"weights": {}}, r"'state_dict'.*\['weights'\]"),
        ([1], r"'state_dict'.*list"),
    ],
)
def test_unreadable_checkpoints(tmp_path, content, message):
    torch.save({"state_dict": {}}, tmp_path / "epoch_1.pth")
    path = tmp_path / "epoch_2.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


def test_truncated_checkpoint(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"state_dict": {"w": torch.zeros(10_000)}}, path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(CheckpointError, match="x.pth"):
        read_checkpoint(path)


def test_addresses_are_not_supported():
    with pytest.raises(CheckpointError, match="example.org/x.pth"):
        read_checkpoint("https://example.org/x.pth")


def test_small_files_with_large_content_are_errors(tmp_path):
    """They are refused before their content is read or its weights are checked."""
    path, packed = tmp_path / "x.pth", tmp_path / "packed.pth"
    torch.save({"state_dict": {"a": torch.zeros(10_000)}}, path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(CheckpointError, match=r"packed\.pth .*without compression"):
        read_checkpoint(packed)
    torch.save({"state_dict": {"a": torch.zeros(1).expand(2**33)}}, path)
    with pytest.raises(CheckpointError, match=r"x\.pth .*state_dict\.a: found 8589934592 voxels with 4 bytes of data"):
        read_checkpoint(path)
