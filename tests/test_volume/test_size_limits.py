"""Small files that declare or unpack to huge arrays are refused before memory is allocated."""

from __future__ import annotations

import gzip
import io
import re
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ctvlm.volume import CTReadError, CTVolume, read_ct
from ctvlm.volume.dicom_headers import find_series
from tests.test_volume.dicom_files import CT_IMAGE, data_set, write_enhanced, write_series

HUGE = (30000, 30000, 30000)
META = """ObjectType = Image
NDims = 3
DimSize = 30000 30000 30000
ElementSpacing = 1 1 1
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 0 0 0
ElementType = MET_SHORT
ElementDataFile = {}
"""
NRRD = """NRRD0004
type: short
dimension: 3
sizes: 30000 30000 30000
space: left-posterior-superior
space directions: (1,0,0) (0,1,0) (0,0,1)
space origin: (0,0,0)
endian: little
encoding: raw
{}
"""


def nifti(path: Path, shape=HUGE, dtype=np.int16, offset: float = 352) -> Path:
    header = nib.Nifti1Header() if max(shape) < 2**15 else nib.Nifti2Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header["magic"], header["vox_offset"] = header.single_magic, offset
    header.set_sform(np.eye(4), 1)
    content = header.binaryblock + bytes(4000)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def many_bytes(path: Path) -> Path:
    """846 million voxels of 8 bytes: fewer than the limit of voxels."""
    return nifti(path.with_suffix(".nii.gz"), (1000, 1000, 846), np.float64)


def late_voxels(path: Path) -> Path:
    return nifti(path.with_suffix(".nii.gz"), (8, 8, 8), offset=2.0**40)


def mha(path: Path) -> Path:
    path.with_suffix(".mha").write_text(META.format("LOCAL"))
    return path.with_suffix(".mha")


def mhd(path: Path) -> Path:
    path.with_suffix(".mhd").write_text(META.format("a.raw"))
    path.with_suffix(".raw").write_bytes(bytes(100))
    return path.with_suffix(".mhd")


def nrrd(path: Path) -> Path:
    path.with_suffix(".nrrd").write_text(NRRD.format(""))
    return path.with_suffix(".nrrd")


def npz(path: Path, name: str = "volume", shape=HUGE) -> Path:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, dict(descr="<i2", fortran_order=False, shape=shape))
    with zipfile.ZipFile(path.with_suffix(".npz"), "w", zipfile.ZIP_DEFLATED) as archive:
        for member in {"volume", name}:
            archive.writestr(f"{member}.npy", header.getvalue() if member == name else npy(np.zeros((4, 4, 4))))
    return path.with_suffix(".npz")


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def affine(path: Path) -> Path:
    return npz(path, "affine")


def dicom(path: Path) -> Path:
    write_series(path, np.zeros((3, 4, 4), np.int16), Rows=60000, Columns=60000)
    return path


def frames(path: Path) -> Path:
    write_enhanced(path.with_suffix(".dcm"), np.zeros((3, 4, 4), np.int16), Rows=60000, Columns=60000)
    return path.with_suffix(".dcm")


def store(path: Path) -> Path:
    blosc2 = pytest.importorskip("blosc2", reason="the store needs Blosc2: pip install 'ctvlm[store]'")
    array = blosc2.zeros((3000, 3000, 3000), dtype=np.int16)
    array.schunk.vlmeta["affine"] = np.eye(4).tolist()
    path.with_suffix(".b2nd").write_bytes(array.to_cframe())
    return path.with_suffix(".b2nd")


def huge(path: Path) -> Path:
    return nifti(path.with_suffix(".nii"))


def huge_gzip(path: Path) -> Path:
    return nifti(path.with_suffix(".nii.gz"))


FILES = [huge, huge_gzip, many_bytes, late_voxels, mha, mhd, nrrd, npz, affine, dicom, frames, store]


@pytest.mark.parametrize("write", FILES, ids=lambda write: write.__name__)
def test_a_huge_image_is_refused(tmp_path, write):
    path = write(tmp_path / "a")
    tracemalloc.start()
    with pytest.raises(CTReadError, match=r"CTVLM_MAX_(VOXELS|BYTES)=\d+") as error:
        read_ct(path)
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_the_setting_in_the_message_raises_the_limit(tmp_path, monkeypatch):
    ct = np.arange(1000, dtype=np.int16).reshape(10, 10, 10) - 1000
    nib.save(nib.Nifti1Image(ct, np.eye(4)), tmp_path / "a.nii.gz")
    monkeypatch.setenv("CTVLM_MAX_VOXELS", "10")
    monkeypatch.setenv("CTVLM_MAX_BYTES", "10")
    for _ in range(3):
        try:
            assert read_ct(tmp_path / "a.nii.gz").shape == (10, 10, 10)
            break
        except CTReadError as error:
            name, value = re.search(r"(CTVLM_MAX_\w+)=(\d+)", str(error)).groups()
            monkeypatch.setenv(name, value)
    else:
        pytest.fail("the suggested limits do not suffice")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_a_small_file_reserves_no_memory_for_voxels_that_it_cannot_contain(tmp_path, name):
    path = nifti(tmp_path / name, (1000, 1000, 400))
    tracemalloc.start()
    with pytest.raises(CTReadError, match="complete file"):
        read_ct(path)
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


def test_a_long_npy_header_is_refused(tmp_path):
    content = b"\x93NUMPY\x02\x00" + (2**31).to_bytes(4, "little") + b" " * 1000
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("volume.npy", content)
    with pytest.raises(CTReadError, match="10,000"):
        read_ct(tmp_path / "a.npz")


def test_a_gzip_file_that_goes_on_after_the_voxels(tmp_path, monkeypatch):
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), tmp_path / "b.nii")
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress((tmp_path / "b.nii").read_bytes() + bytes(40_000_000)))
    monkeypatch.setenv("CTVLM_MAX_BYTES", "1000000")
    with pytest.raises(CTReadError, match="after the voxels"):
        read_ct(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("preamble", [True, False])
def test_a_deflated_dicom_file(tmp_path, monkeypatch, preamble):
    """pydicom decompresses the whole file to read its first tags."""
    pytest.importorskip("pydicom", reason="DICOM needs pydicom: pip install 'ctvlm[dicom]'")
    ds = data_set(CT_IMAGE, np.zeros((4, 4), np.int16))
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True, implicit_vr=False, little_endian=True)
    assert len(find_series(tmp_path)) == 1
    whole = (tmp_path / "a.dcm").read_bytes()
    tags = bytes.fromhex("1000 1000") + b"PN\x02\x00A "
    stream = zlib.compressobj(wbits=-15)
    body = stream.compress(tags) + stream.compress(bytes(50_000_000)) + stream.flush()
    start = whole.index(b"1.2.840.10008.1.2.1.99")
    length = int.from_bytes(whole[140:144], "little")
    bomb = whole[: 144 + length] + body
    assert start < 144 + length
    (tmp_path / "a.dcm").write_bytes(bomb if preamble else bomb[132:])
    monkeypatch.setenv("CTVLM_MAX_BYTES", "1000000")
    with pytest.raises(CTReadError, match="CTVLM_MAX_BYTES"):
        find_series(tmp_path)


def test_a_window_of_a_huge_store_can_be_read(tmp_path):
    from ctvlm.volume.store import StoredArray

    window = StoredArray(store(tmp_path / "a")).read((slice(0, 4), slice(0, 4), slice(0, 4)))
    assert isinstance(window, CTVolume) and not window.array.any()
