import pytest
import torch

from ctvlm.models.text_encoders.tower import write_files
from ctvlm.utils.pretrained_files import pack_files, stored_files, unpack_files, use_pretrained_files

FILES = {"config.json": b"{}", "deep/vocab.txt": bytes(range(256)) * 10}


def test_unpack_inverts_pack_and_equal_files_give_equal_bytes():
    packed = pack_files("someone/model", FILES)
    assert packed.dtype is torch.uint8 and packed.ndim == 1
    assert unpack_files(packed) == ("someone/model", FILES)
    assert torch.equal(packed, pack_files("someone/model", dict(reversed(FILES.items()))))


def test_files_are_found_by_source_inside_the_context_only():
    state = {
        "a.pretrained_files": pack_files("a", FILES),
        "head.b.pretrained_files": pack_files("b", {}),
        "w": torch.ones(1),
    }
    assert stored_files("a") is None
    with use_pretrained_files(state):
        assert (stored_files("a"), stored_files("b"), stored_files("c")) == (FILES, {}, None)
        with use_pretrained_files({}):
            assert stored_files("a") is None
        assert stored_files("a") == FILES
    assert stored_files("a") is None


def test_stored_names_cannot_escape_their_folder(tmp_path):
    folder = tmp_path / "inside"
    write_files(FILES, str(folder))
    assert (folder / "deep" / "vocab.txt").read_bytes() == FILES["deep/vocab.txt"]
    for name in ("../outside", "/etc/outside", "deep/../../outside"):
        with pytest.raises(ValueError, match=name):
            write_files({name: b""}, str(folder))
    assert not (tmp_path / "outside").exists()
