"""Image headers cannot make ctvlm read files outside their folder."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from ctvlm.volume import CTReadError, read_ct
from ctvlm.volume.detached import data_files, linked_files
from tests.test_volume.test_size_limits import META, NRRD

SIZE = 8 * 8 * 8 * 2


@pytest.fixture
def folder(tmp_path):
    """Folder of a header; ``secret`` next to it has enough bytes for the voxels."""
    (tmp_path / "m").mkdir()
    (tmp_path / "secret").write_bytes((np.arange(512, dtype=np.int16) - 1000).tobytes())
    (tmp_path / "m" / "inside.raw").write_bytes((tmp_path / "secret").read_bytes())
    (tmp_path / "m" / "link.raw").symlink_to(tmp_path / "secret")
    return tmp_path / "m"


def header(folder: Path, suffix: str, name: str) -> Path:
    path = folder / f"a{suffix}"
    text = META if suffix in (".mhd", ".mha") else NRRD.replace("{}", "data file: {}")
    path.write_text(text.replace("30000", "8").format(name))
    return path


@pytest.mark.parametrize("suffix", [".mhd", ".mha", ".nhdr", ".nrrd"])
@pytest.mark.parametrize("name", ["../secret", "{}/secret", "link.raw", "LIST\n../secret"])
def test_data_outside_the_folder_is_refused(folder, suffix, name):
    path = header(folder, suffix, name.replace("{}", str(folder.parent)))
    with pytest.raises(CTReadError, match="folder"):
        read_ct(path)


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_data_outside_the_folder_can_be_allowed(folder, suffix, monkeypatch):
    path = header(folder, suffix, "../secret")
    wanted = read_ct(header(folder.parent, suffix, "secret"), check_range=False).array
    assert np.array_equal(read_ct(path, allow_outside=True, check_range=False).array, wanted)
    monkeypatch.setenv("CTVLM_DATA_ROOTS", str(folder.parent))
    assert np.array_equal(read_ct(path, check_range=False).array, wanted)


@pytest.mark.parametrize("suffix", [".mhd", ".mha", ".nhdr", ".nrrd"])
def test_data_in_the_folder_is_read(folder, suffix):
    assert read_ct(header(folder, suffix, "inside.raw"), check_range=False).shape == (8, 8, 8)


@pytest.mark.parametrize(
    "line",
    [
        "ElementDataFile=../secret",
        "ElementDataFile : ../secret",
        "ElementDataFile   =   ../secret",
        "elementdatafile = ../secret",
        "Comment = x ElementDataFile = ../secret",
        "ElementDataFile = ../secre%c 116 116 1",
        "ElementDataFile = %s%d 1 2 1",
    ],
)
def test_unusual_lines(folder, line):
    """Whatever the parser makes of the line, it gets no file from elsewhere."""
    path = folder / "a.mhd"
    path.write_text(META.replace("30000", "8").replace("ElementDataFile = {}", line))
    with pytest.raises(CTReadError):
        read_ct(path)


def test_slices_in_files(folder):
    for number in range(1, 4):
        (folder / f"s{number:03d}.raw").write_bytes(bytes(128))
    path = header(folder, ".mhd", "s%03d.raw 1 3 1")
    assert [p.name for p in linked_files(path)] == ["s001.raw", "s002.raw", "s003.raw"]
    (folder / "s002.raw").unlink()
    (folder / "s002.raw").symlink_to(folder.parent / "secret")
    with pytest.raises(CTReadError, match="s002.raw"):
        read_ct(path)


def test_a_nifti_pair_with_a_linked_half(folder):
    image = sitk.GetImageFromArray((np.arange(512, dtype=np.int16) - 1000).reshape(8, 8, 8))
    sitk.WriteImage(image, str(folder / "b.img"))
    (folder / "b.img").rename(folder.parent / "b.img")
    (folder / "b.img").symlink_to(folder.parent / "b.img")
    with pytest.raises(CTReadError, match="b.img"):
        read_ct(folder / "b.hdr")


def test_names_in_headers(folder):
    assert data_files(header(folder, ".mhd", "a b.raw")).names == ["a b.raw"]
    assert data_files(header(folder, ".mha", "LOCAL")).names == []
    assert data_files(header(folder, ".nrrd", "LIST\na.raw\nb.raw")).names == ["a.raw", "b.raw"]
    assert data_files(folder / "a.nii").names == []


@pytest.fixture
def linked(folder):
    """``folder`` with links to files of 8 slices outside it, and one file of voxels with another name."""
    for number in range(1, 9):
        (folder.parent / f"q{number}").write_bytes((np.arange(64, dtype=np.int16) - 900).tobytes())
        (folder / f"t{number}.raw").symlink_to(folder.parent / f"q{number}")
    for name in ("LoCaL", "Müller.raw"):
        (folder / name).symlink_to(folder.parent / "secret")
    return folder


SLICES = "".join(f"\n../q{number}" for number in range(1, 9))


@pytest.mark.parametrize(
    "text",
    [
        "ElementDataFileX = inside.raw\nElementDataFile = ../secret",
        "ElementDataFileX = inside.raw\rElementDataFile = ../secret",
        " " * 9990 + "ElementDataFile = ../secret",
        f"ElementDataFile = LISTING{SLICES}",
        f"ElementDataFile = LIST\t2{SLICES}",
        "ElementDataFile = LoCaL",
        "ElementDataFile = t%d.raw",
        "ElementDataFile = t%d.raw 1x 8x 1",
        "ElementDataFile = Müller.raw",
    ],
)
def test_lines_that_parsers_read_in_another_way(linked, text):
    path = linked / "a.mhd"
    path.write_text(META.replace("30000", "8").replace("ElementDataFile = {}", text), encoding="utf-8", newline="")
    with pytest.raises(CTReadError, match="folder of the header|link to a file elsewhere|line of"):
        read_ct(path)


@pytest.mark.parametrize(
    "text",
    [
        "# x\rdata file: ../secret",
        "data file: t%d.raw +1 +8 1 2",
        f"data file: LIST 2{SLICES}",
        "data file: Müller.raw",
        "x" * 100_000 + ": y",  # ends the process in ITK 5.4
    ],
)
def test_lines_of_nrrd_headers(linked, text):
    path = linked / "a.nhdr"
    path.write_text(NRRD.replace("30000", "8").replace("{}", text), encoding="utf-8", newline="")
    with pytest.raises(CTReadError, match="folder of the header|link to a file elsewhere|line of"):
        read_ct(path)


def test_usual_headers_are_read(folder):
    """A long value as in files of 3D Slicer, and a name that is not ASCII, also of compressed data."""
    path = header(folder, ".nhdr", "inside.raw")
    path.write_text(path.read_text().replace("data file", f"Segment0_Tags:={'y' * 20_000}\ndata file"))
    assert read_ct(path, check_range=False).shape == (8, 8, 8)
    image = sitk.GetImageFromArray((np.arange(512, dtype=np.int16) - 1000).reshape(8, 8, 8))
    sitk.WriteImage(image, str(folder / "Größe.mhd"), useCompression=True)
    assert read_ct(folder / "Größe.mhd", check_range=False).array.min() == -1000


def test_a_header_longer_than_any_real_one(folder):
    path = header(folder, ".mhd", "inside.raw")
    path.write_bytes(b"\n" * (1 << 20) + path.read_bytes())
    with pytest.raises(CTReadError, match="header of more than"):
        read_ct(path)


def test_compressed_data_is_bounded(folder, monkeypatch):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((8, 8, 8), np.int16)), str(folder / "c.mhd"), useCompression=True)
    (folder / "c.zraw").write_bytes(zlib.compress(bytes(50_000_000)))
    monkeypatch.setenv("CTVLM_MAX_BYTES", "1000000")
    with pytest.raises(CTReadError, match="CTVLM_MAX_BYTES"):
        read_ct(folder / "c.mhd")


@pytest.mark.parametrize("number", ["-1", "-1 8 8", "1e9", "0", ""])
def test_a_number_of_dimensions_for_which_metaio_does_not_end_is_refused(folder, number):
    path = header(folder, ".mha", "inside.raw")
    path.write_text(path.read_text().replace("NDims = 3", f"NDims = {number}"))
    with pytest.raises(CTReadError, match="NDims"):
        read_ct(path)
