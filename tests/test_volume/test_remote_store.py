"""Stores on a server: requests of a case, checksums and errors."""

from __future__ import annotations

import json
from hashlib import sha256

import numpy as np
import pytest

from ctvlm.anatomy import RegionScheme
from ctvlm.datasets.transforms.load_store import LoadStore
from ctvlm.experiments.benchmark.store_server import served
from ctvlm.volume import CTReadError, CTVolume, files
from ctvlm.volume.store import encode, open_together

pytest.importorskip("blosc2", reason="needs blosc2")
pytest.importorskip("aiohttp", reason="needs aiohttp")
NAMES = ("volume.b2nd", "region_map.b2nd", "lesion_map.b2nd")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    with served(folder) as found:
        yield folder, found


def write_case(folder):
    folder.mkdir()
    arrays = {name: np.full((4, 8, 8), number, np.uint8) for number, name in enumerate(NAMES)}
    arrays[NAMES[0]] = np.arange(256, dtype=np.int16).reshape(4, 8, 8)
    contents = {name: encode(CTVolume(array, np.eye(4))) for name, array in arrays.items()}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    entries = {name: dict(file=name, sha256=sha256(content).hexdigest()) for name, content in contents.items()}
    (folder / "case.json").write_text(json.dumps(dict(arrays=entries)))
    return arrays


def case_at(url):
    volume, regions, lesions = (f"{url}/{name}" for name in NAMES)
    scheme = dict(source=RegionScheme.load().source_id)
    return dict(volume=dict(path=volume), region_map=dict(path=regions, **scheme), lesion_masks=[dict(path=lesions)])


def test_a_case_takes_one_request_per_array_and_one_for_its_checksums(server):
    folder, found = server
    arrays = write_case(folder / "one")
    paths = [f"{found.url}/one/{name}" for name in NAMES]
    for expected in (4, 3):  # the checksums are read once in a run
        before = found.requests
        opened = open_together(paths)
        assert found.requests - before == expected
        for name, stored in zip(NAMES, opened, strict=True):
            assert np.array_equal(stored.read().array, arrays[name])


def test_damaged_and_missing_files_are_named(server):
    folder, found = server
    write_case(folder / "two")
    path = folder / "two" / NAMES[1]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    paths = [f"{found.url}/two/{name}" for name in NAMES]
    with pytest.raises(CTReadError, match=r"region_map\.b2nd.*sha256"):
        open_together(paths)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"region_map\.b2nd"):
        open_together(paths)
    assert files.size(paths[1]) is None
    assert files.size(paths[0]) == (folder / "two" / NAMES[0]).stat().st_size


def test_local_and_served_cases_are_equal(server):
    folder, found = server
    write_case(folder / "three")
    load = LoadStore()
    local, remote = load(case_at(str(folder / "three"))), load(case_at(f"{found.url}/three"))
    for key in ("volume", "region_map", "lesion_map", "affine"):
        assert np.array_equal(local[key], remote[key])
