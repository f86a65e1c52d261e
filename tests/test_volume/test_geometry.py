"""Missing and conflicting geometry in headers, and written files that all programs read identically."""

from __future__ import annotations

import warnings

import nibabel as nib
import numpy as np
import pytest

from ctvlm.volume import (
    CTReadError,
    CTVolume,
    MaskMismatchError,
    QFormConflictWarning,
    crop,
    match_mask,
    read_ct,
    read_label_map,
    write_nifti,
)
from tests.test_volume.phantoms import make_ct, rotated, save_as
from tests.test_volume.test_sheared import DEGREES, PAIRS, sheared_affine

sitk = pytest.importorskip("SimpleITK")
CT = make_ct((6, 8, 10))
META = dict(
    ObjectType="Image",
    NDims="3",
    BinaryData="True",
    BinaryDataByteOrderMSB="False",
    TransformMatrix="-1 0 0 0 -1 0 0 0 1",
    Offset="40 60 20",
    ElementSpacing="0.75 1.5 3",
    DimSize="10 8 6",
    ElementType="MET_SHORT",
)
NRRD = {
    "type": "short",
    "dimension": "3",
    "sizes": "10 8 6",
    "endian": "little",
    "encoding": "raw",
    "space": "right-anterior-superior",
    "space directions": "(0.75,0,0) (0,1.5,0) (0,0,3)",
    "space origin": "(-40,-60,20)",
}


def meta_image(path, changes):
    fields = {k: v for k, v in {**META, **changes}.items() if v is not None}
    voxels = CT.array.astype("<i2").tobytes()
    local = path.suffix == ".mha"
    fields["ElementDataFile"] = "LOCAL" if local else path.stem + ".raw"
    text = "".join(f"{k} = {v}\n" for k, v in fields.items()).encode()
    path.write_bytes(text + (voxels if local else b""))
    if not local:
        path.with_suffix(".raw").write_bytes(voxels)


def nrrd(path, changes):
    # "dimension" precedes the fields that depend on it, and "space dimension" precedes the directions.
    fields = {"dimension": "3", **changes, **NRRD, **changes}
    fields = {k: v for k, v in fields.items() if v is not None}
    text = "NRRD0004\n" + "".join(f"{k}: {v}\n" for k, v in fields.items())
    path.write_bytes(text.encode() + b"\n" + CT.array.astype("<i2").tobytes())


def written(path, changes):
    (nrrd if path.suffix == ".nrrd" else meta_image)(path, changes)
    return path


NO_SPACE = {"space": None, "space directions": None, "space origin": None}
MISSING = [
    (".mhd", {"ElementSpacing": None}, "ElementSpacing", dict(spacing=CT.spacing)),
    (".mha", {"ElementSpacing": None}, "ElementSpacing", dict(spacing=CT.spacing)),
    (".mhd", {"TransformMatrix": None}, "TransformMatrix", dict(axes="RAS")),
    (".mha", {"TransformMatrix": None, "AnatomicalOrientation": "RAI"}, "TransformMatrix", dict(axes="RAS")),
    (".mha", {"Offset": None}, "Offset", dict(axes="RAS")),
    (
        ".mha",
        {"Offset": None, "TransformMatrix": None, "ElementSpacing": None},
        "ElementSpacing",
        dict(spacing=CT.spacing, axes="RAS"),
    ),
    (".nrrd", NO_SPACE, "space", dict(spacing=CT.spacing, axes="RAS")),
    (".nrrd", {**NO_SPACE, "spacings": "0.75 1.5 3"}, "space", dict(axes="RAS")),
    (".nrrd", {"space directions": None}, "space directions", dict(spacing=CT.spacing, axes="RAS")),
    (".nrrd", {"space origin": None}, "space origin", dict(axes="RAS")),
    (".nrrd", {"space": "scanner-xyz"}, "space", dict(axes="RAS")),
    (".nrrd", {"space": None, "space dimension": "3"}, "space", dict(axes="RAS")),
]


@pytest.mark.parametrize(("suffix", "changes", "key", "remedy"), MISSING)
def test_missing_geometry_raises_and_can_be_declared(suffix, changes, key, remedy, tmp_path):
    path = written(tmp_path / f"ct{suffix}", changes)
    for read in (read_ct, read_label_map):
        with pytest.raises(CTReadError) as caught:
            read(path)
        assert key in str(caught.value) and str(path) in str(caught.value)
        assert all(f"{option}=" in str(caught.value) for option in remedy)
    got = read_ct(path, **remedy)
    np.testing.assert_array_equal(got.array, CT.array)
    assert got.spacing == pytest.approx(CT.spacing) and got.orientation == "RAS"


@pytest.mark.parametrize(
    ("suffix", "changes"),
    [
        (".mha", {}),
        (".mha", {"ElementSpacing": None, "ElementSize": "0.75 1.5 3"}),
        (".mhd", {"Offset": None, "Position": "40 60 20"}),
        (".nrrd", {}),
        (".nrrd", {"space": "RAS"}),
    ],
)
def test_alternative_keys_of_complete_headers(suffix, changes, tmp_path):
    got = read_ct(written(tmp_path / f"ct{suffix}", changes))
    np.testing.assert_array_equal(got.array, CT.array)
    np.testing.assert_allclose(got.affine, CT.affine, atol=1e-4)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_qform_without_voxel_sizes(suffix, tmp_path):
    image = nib.Nifti1Image(CT.array.transpose(2, 1, 0), CT.affine)
    image.set_sform(None, 0)
    image.set_qform(CT.affine, 1)
    image.to_filename(tmp_path / "whole.nii")
    raw = bytearray((tmp_path / "whole.nii").read_bytes())
    raw[80:92] = bytes(12)
    path = tmp_path / f"ct{suffix}"
    with nib.openers.Opener(path, "wb") as file:
        file.write(bytes(raw))
    with pytest.raises(CTReadError, match=r"pixdim.*spacing="):
        read_ct(path)
    np.testing.assert_allclose(read_ct(path, spacing=CT.spacing).affine, CT.affine, atol=1e-4)


def test_array_named_ct_warns_unless_the_file_name_is_of_rad_chestct(tmp_path):
    np.savez(tmp_path / "mine.npz", ct=CT.array)
    with pytest.warns(UserWarning, match=r"mine\.npz.*0\.8 mm"):
        read_ct(tmp_path / "mine.npz")
    (tmp_path / "mine.npz").rename(tmp_path / "trn00001.npz")
    for path, options in ((tmp_path / "trn00001.npz", {}), (tmp_path / "trn00001.npz", dict(spacing=(1, 1, 1)))):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read_ct(path, **options)


# --- sform and qform


def two_forms(path, volume, qform, codes=(1, 1)):
    image = nib.Nifti1Image(volume.array.transpose(2, 1, 0), volume.affine)
    image.set_sform(volume.affine, codes[0])
    image.set_qform(qform, codes[1])
    nib.save(image, path)


def moved(affine, x_mm=0.0, flip=False):
    out = affine.copy()
    out[0, 3] += x_mm
    if flip:  # about the centre of ten voxels: the field of view stays
        out[0, 3] += 9 * out[0, 0]
        out[:3, 0] *= -1
    return out


MARKED = CT.with_array((CT.array > 0).astype(np.uint8))
CHANGES = {"shift": dict(x_mm=40.0), "half a voxel": dict(x_mm=0.45), "flip": dict(flip=True)}


@pytest.mark.parametrize("change", CHANGES)
def test_conflicting_forms_warn_and_the_sform_is_used(change, tmp_path):
    qform = moved(CT.affine, **CHANGES[change])
    two_forms(tmp_path / "ct.nii", CT, qform)
    with pytest.warns(QFormConflictWarning, match=r"ct\.nii.*sform: axes RAS.*qform: axes .*affine="):
        ct = read_ct(tmp_path / "ct.nii")
    np.testing.assert_allclose(ct.affine, CT.affine, atol=1e-4)

    # A mask on the sform's grid matches; a mask on the qform's grid raises.
    save_as(MARKED, tmp_path / "mask.nii")
    np.testing.assert_array_equal(match_mask(read_label_map(tmp_path / "mask.nii"), ct).array, MARKED.array)
    image = nib.Nifti1Image(MARKED.array.transpose(2, 1, 0), qform)
    nib.save(image, tmp_path / "other.nii")
    with pytest.raises(MaskMismatchError, match=r"other\.nii.*qform of the CT"):
        match_mask(read_label_map(tmp_path / "other.nii"), ct, "other.nii")
    # The header of the mask has two forms, and only the unused one fits.
    save_as(CT, tmp_path / "plain.nii")
    two_forms(tmp_path / "two.nii", CTVolume(MARKED.array, qform), CT.affine)
    with pytest.warns(QFormConflictWarning, match=r"two\.nii"):
        two = read_label_map(tmp_path / "two.nii")
    with pytest.raises(MaskMismatchError, match="qform of the mask"):
        match_mask(two, read_ct(tmp_path / "plain.nii"), "two.nii")
    # Equal headers fit by the sform. A declared geometry resolves the conflict.
    two_forms(tmp_path / "same.nii", MARKED, qform)
    with pytest.warns(QFormConflictWarning):
        same = read_label_map(tmp_path / "same.nii")
    np.testing.assert_array_equal(match_mask(same, ct).array, MARKED.array)
    with warnings.catch_warnings():
        warnings.simplefilter("error", QFormConflictWarning)
        declared = read_ct(tmp_path / "ct.nii", affine=qform)
    assert match_mask(read_label_map(tmp_path / "other.nii"), declared).array.any()


def test_crop_on_the_lattice_of_the_qform(tmp_path):
    qform = moved(CT.affine, x_mm=0.4 * 0.75 + 0.75)
    two_forms(tmp_path / "ct.nii", CT, qform)
    with pytest.warns(QFormConflictWarning):
        ct = read_ct(tmp_path / "ct.nii")
    for affine, fits in ((qform, False), (CT.affine, True)):
        save_as(crop(CTVolume(MARKED.array, affine), (slice(1, 5), slice(2, 7), slice(2, 6))), tmp_path / "mask.nii")
        mask = read_label_map(tmp_path / "mask.nii")
        if fits:
            assert match_mask(mask, ct) is not None
        else:
            with pytest.raises(MaskMismatchError):
                match_mask(mask, ct)


@pytest.mark.parametrize(("codes", "x_mm"), [((1, 1), 0.2), ((1, 0), 40.0), ((0, 1), 40.0)])
def test_equal_or_single_forms_do_not_warn(codes, x_mm, tmp_path):
    two_forms(tmp_path / "ct.nii", CT, moved(CT.affine, x_mm), codes)
    with warnings.catch_warnings():
        warnings.simplefilter("error", QFormConflictWarning)
        got = read_ct(tmp_path / "ct.nii")
    assert got.affine[0, 3] == pytest.approx(CT.affine[0, 3] + (40 if codes == (0, 1) else 0), abs=1e-4)


def test_shifted_mask_of_a_real_ct(shared_data, tmp_path):
    """Forms 40 mm apart: with the wrong one, the liver would have -22 HU."""
    folder = shared_data / "ct" / "ts_small_117"
    image, seg = (nib.load(folder / name) for name in ("example_ct_sm.nii.gz", "example_seg.nii.gz"))
    qform = moved(image.affine, 40.0)
    image.set_sform(image.affine, 1)
    image.set_qform(qform, 1)
    nib.save(image, tmp_path / "ct.nii.gz")
    nib.save(nib.Nifti1Image(np.asanyarray(seg.dataobj).astype(np.uint8), qform), tmp_path / "seg.nii.gz")
    with pytest.warns(QFormConflictWarning, match="40.0 mm"):
        ct = read_ct(tmp_path / "ct.nii.gz")
    with pytest.raises(MaskMismatchError):
        match_mask(read_label_map(tmp_path / "seg.nii.gz"), ct)
    correct = match_mask(read_label_map(folder / "example_seg.nii.gz"), ct)
    assert ct.array[correct.array == 5].mean() == pytest.approx(45, abs=2)


# --- written files


def peak_positions(path) -> list[np.ndarray]:
    """Position of the brightest voxel in mm (RAS+), by nibabel and by SimpleITK."""
    image, other = nib.load(path), sitk.ReadImage(str(path))
    index = np.unravel_index(np.argmax(image.get_fdata()), image.shape)
    array = sitk.GetArrayFromImage(other)
    other_index = np.unravel_index(np.argmax(array), array.shape)[::-1]
    position = other.TransformIndexToPhysicalPoint([int(i) for i in other_index])
    return [nib.affines.apply_affine(image.affine, index), np.array(position) * (-1, -1, 1)]


def grids():
    rng = np.random.default_rng(7)
    for pair in PAIRS:
        for degrees in (*DEGREES, 0.1):  # 0.1 degrees is below the tolerance
            yield f"sheared {pair} {degrees}", sheared_affine(pair, degrees, rng.choice([-1, 1], 3), rng)
    for degrees in (0, 3, 30, 179.9):
        for flips in ((1, 1, 1), (-1, -1, 1), (1, -1, -1), (-1, 1, 1)):
            affine = rotated(make_ct(), degrees).affine
            affine[:3, :3] *= flips
            yield f"rotated {degrees} {flips}", affine
            yield f"rotated and permuted {degrees} {flips}", affine[:, [1, 2, 0, 3]]


def test_nibabel_and_simpleitk_read_the_same_geometry(tmp_path):
    for name, affine in grids():
        array = np.zeros((16, 40, 50), np.float32)
        array[12:15, 30:33, 40:43] = 50
        array[13, 31, 41] = 100
        truth = affine @ (41, 31, 13, 1)
        for stored, slope in ((array, 1.0), (array.astype(np.uint8), 0.5)):
            write_nifti(CTVolume(stored, affine), tmp_path / "map.nii", slope=slope)
            for position in peak_positions(tmp_path / "map.nii"):
                off = np.linalg.solve(affine[:3, :3], position - truth[:3])
                assert np.abs(off).max() <= 1, (name, off)


def test_labels_of_a_sheared_grid_keep_their_ids_and_voxels(tmp_path):
    affine = sheared_affine((1, 2), 17, (1, -1, 1), np.random.default_rng(0))
    labels = np.zeros((16, 40, 50), np.uint8)
    labels[:, 10:30, 10:30] = 7
    labels[5, 5:9, 5:9] = 90
    write_nifti(CTVolume(labels, affine), tmp_path / "mask.nii.gz")
    read = np.asanyarray(nib.load(tmp_path / "mask.nii.gz").dataobj)
    np.testing.assert_array_equal(np.bincount(read.ravel())[1:], np.bincount(labels.ravel())[1:])
