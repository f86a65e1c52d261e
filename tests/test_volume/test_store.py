"""Stored volumes are lossless, as a whole and in windows."""

from __future__ import annotations

import fsspec
import numpy as np
import pytest

from ctvlm.volume import CTReadError, CTVolume, crop, read_ct, read_label_map

pytest.importorskip("blosc2", reason="the store needs Blosc2: pip install 'ctvlm[store]'")

from ctvlm.volume.store import StoredArray, encode

AFFINE = np.array([[0.0, 1.5, 0, 7], [-0.7, 0, 0.1, 3], [0, 0.2, 3, -9], [0, 0, 0, 1]])


def volume(dtype: type, shape=(40, 130, 150)) -> CTVolume:
    rng = np.random.default_rng(0)
    low, high = (-1024, 1500) if dtype == np.int16 else (0, 21)
    coarse = rng.integers(low, high, (5, 13, 15))
    full = np.kron(coarse, np.ones((8, 10, 10), int))[: shape[0], : shape[1], : shape[2]]
    return CTVolume(full.astype(dtype), AFFINE)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8])
@pytest.mark.parametrize("shape", [(40, 130, 150), (1, 7, 3)])
def test_round_trip(tmp_path, dtype, shape):
    wanted = volume(dtype, shape)
    path = tmp_path / "a.b2nd"
    path.write_bytes(encode(wanted))
    stored = StoredArray(path)
    assert stored.shape == shape and stored.dtype == dtype
    assert np.array_equal(stored.affine, AFFINE)
    assert np.array_equal(stored.read().array, wanted.array)


def test_equal_volumes_give_equal_bytes():
    assert encode(volume(np.int16)) == encode(volume(np.int16))


@pytest.mark.parametrize("where", ["file", "url"])
def test_windows_equal_crops(tmp_path, where):
    wanted = volume(np.int16)
    path = f"memory://{tmp_path.name}/a.b2nd" if where == "url" else str(tmp_path / "a.b2nd")
    with fsspec.open(path, "wb") as file:
        file.write(encode(wanted))
    stored = StoredArray(path)
    rng = np.random.default_rng(1)
    for _ in range(20):
        box = tuple(slice(s := int(rng.integers(n)), int(rng.integers(s, n)) + 1) for n in wanted.shape)
        got, true = stored.read(box), crop(wanted, box)
        assert np.array_equal(got.array, true.array) and np.allclose(got.affine, true.affine)


def test_a_window_decodes_its_blocks_only(tmp_path):
    """Damage in one block affects only the windows that contain it."""
    rng = np.random.default_rng(0)
    noise = CTVolume(rng.integers(-1000, 1000, (64, 128, 256)).astype(np.int16), AFFINE)
    path = tmp_path / "a.b2nd"
    data = bytearray(encode(noise))
    middle = len(data) // 8
    data[middle : middle + 4000] = bytes(4000)
    path.write_bytes(data)
    stored = StoredArray(path)
    far = (slice(40, 64), slice(64, 128), slice(192, 256))
    assert np.array_equal(stored.read(far).array, noise.array[far])
    try:
        assert not np.array_equal(stored.read().array, noise.array)
    except CTReadError as error:
        assert error.path == str(path)


def test_readers_support_stored_volumes(tmp_path):
    axes = np.diag([1.5, 1.5, 3.0, 1.0])
    ct = CTVolume(volume(np.int16).array, axes)
    labels = CTVolume(volume(np.uint8).array, axes)
    (tmp_path / "ct.b2nd").write_bytes(encode(ct))
    (tmp_path / "seg.b2nd").write_bytes(encode(labels))
    assert np.array_equal(read_ct(tmp_path / "ct.b2nd").array, ct.array)
    assert np.array_equal(read_label_map(tmp_path / "seg.b2nd").array, labels.array)
    one = read_label_map(tmp_path / "seg.b2nd", key="7")
    assert np.array_equal(one.array, labels.array == 7) and np.allclose(one.affine, axes)


@pytest.mark.parametrize("content", [b"", b"not a store", None])
def test_other_and_truncated_files(tmp_path, content):
    path = tmp_path / "a.b2nd"
    path.write_bytes(encode(volume(np.int16))[:2000] if content is None else content)
    with pytest.raises(CTReadError, match="preprocess"):
        StoredArray(path).read()
    with pytest.raises(FileNotFoundError, match=r"b\.b2nd"):
        StoredArray(tmp_path / "b.b2nd")


@pytest.mark.parametrize("layer", ["LazyArray", "proxy-source", "b2o"])
@pytest.mark.parametrize("where", ["file", "url"])
def test_a_file_cannot_bring_code(tmp_path, monkeypatch, layer, where):
    """Blosc2 before 4.14 runs the text of such a layer when it opens the file."""
    import blosc2

    for name in ("open", "ndarray_from_cframe"):
        monkeypatch.setattr(blosc2, name, lambda *a, **k: pytest.fail("opened"))
    array = blosc2.asarray(np.zeros((4, 4, 4), np.int16), meta={layer: {"UDF": "raise SystemExit"}})
    path = f"memory://{tmp_path.name}/b.b2nd" if where == "url" else str(tmp_path / "b.b2nd")
    with fsspec.open(path, "wb") as file:
        file.write(array.to_cframe())
    with pytest.raises(CTReadError, match="expression"):
        StoredArray(path)
