"""A manifest from others cannot make ctvlm open files outside its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ctvlm.apis.case_input import find_cases
from ctvlm.datasets import ManifestCT, read_manifest, write_manifest
from ctvlm.datasets.manifest import ManifestError
from ctvlm.datasets.manifest_paths import ManifestPaths
from ctvlm.volume import files


@pytest.fixture
def folder(tmp_path):
    """Folder of a manifest, next to ``other`` with a file; ``link`` and ``link.nii`` lead to it."""
    for name in ("m/sub", "other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "other" / "a.nii").write_bytes(b"")
    (tmp_path / "m" / "link").symlink_to(tmp_path / "other")
    (tmp_path / "m" / "link.nii").symlink_to(tmp_path / "other" / "a.nii")
    return tmp_path / "m"


def manifest(folder: Path, path: str, key: str = "volume") -> Path:
    case = dict(case_id="a", patient_id="a", split="train", volume="ct.nii")
    case[key] = [dict(path=path)] if key == "lesion_masks" else {"files": {"liver": path}} if key == "files" else path
    if key == "files":
        case["region_map"] = case.pop("files")
    (folder / "m.jsonl").write_text(json.dumps(case))
    return folder / "m.jsonl"


OUTSIDE = [
    "/etc/passwd",
    "../other/a.nii",
    "sub/../../other/a.nii",
    "link/a.nii",
    "link.nii",
    "link",
    "..",
    "file:///etc/passwd",
    "file://../other/a.nii",
    "s3://bucket/a.nii",
    "https://host/a.nii",
    "memory://a.nii",
    "simplecache::file:///etc/passwd",
    "zip://a.nii::/etc/a.zip",
    "a\0b.nii",
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_paths_outside_the_folder_are_refused(folder, path):
    with pytest.raises(ManifestError, match="line 1: path of volume"):
        read_manifest(manifest(folder, path))


@pytest.mark.parametrize("key", ["volume", "region_map", "files", "lesion_masks"])
def test_every_path_of_a_case_is_checked(folder, key):
    with pytest.raises(ManifestError, match="allow_outside"):
        read_manifest(manifest(folder, "../other/a.nii", key))
    (case,) = read_manifest(manifest(folder, "../other/a.nii", key), allow_outside=True)
    assert str(folder.parent / "other" / "a.nii") in json.dumps(case)


@pytest.mark.parametrize("path", ["a.nii", "sub/a.nii", "sub/../a.nii", "./a.nii", "a::b.nii", "%2e%2e/a.nii", "sub"])
def test_paths_inside_the_folder_are_accepted(folder, path):
    (case,) = read_manifest(manifest(folder, path))
    assert Path(case["volume"]["path"]).is_relative_to(folder)


def test_a_file_url_is_a_local_path(folder):
    (case,) = read_manifest(manifest(folder, f"file://{folder}/sub/a.nii"))
    assert case["volume"]["path"] == str(folder / "sub" / "a.nii")
    (case,) = read_manifest(manifest(folder, f"file://localhost{folder}/a.nii"))
    assert case["volume"]["path"] == str(folder / "a.nii")
    assert len(read_manifest(f"file://{manifest(folder, 'a.nii')}")) == 1


def test_a_linked_folder_of_the_manifest_is_its_folder(folder):
    (folder.parent / "shortcut").symlink_to(folder)
    manifest(folder, "sub/a.nii")
    (case,) = read_manifest(folder.parent / "shortcut" / "m.jsonl")
    assert case["volume"]["path"].endswith("shortcut/sub/a.nii")


@pytest.mark.parametrize("how", ["allow_outside", "data_roots", "environment", "data_root", "data set", "inferencer"])
def test_the_user_can_allow_other_folders(folder, monkeypatch, how):
    path, other = manifest(folder, "../other/a.nii"), folder.parent / "other"
    if how == "environment":
        monkeypatch.setenv("CTVLM_DATA_ROOTS", f"/nowhere:{other}")
    if how == "inferencer":
        assert find_cases(path, allow_outside=True).cases[0].path == str(other / "a.nii")
        return
    if how in ("data_root", "data set"):
        options = dict(data_root=str(other)) if how == "data_root" else dict(allow_outside=True)
        assert ManifestCT(str(path), **options)[0]["volume"]["path"] == str(other / "a.nii")
        return
    options = dict(allow_outside=dict(allow_outside=True), data_roots=dict(data_roots=[other])).get(how, {})
    (case,) = read_manifest(path, **options)
    assert case["volume"]["path"] == str(other / "a.nii")


def test_a_data_root_is_not_a_prefix_of_other_folders(folder):
    (folder.parent / "other_2").mkdir()
    with pytest.raises(ManifestError, match="other_2"):
        read_manifest(manifest(folder, "../other_2/a.nii"), data_roots=[folder.parent / "other"])


@pytest.mark.parametrize(
    "path, accepted",
    [
        ("a.nii", True),
        ("s3://bucket/data/a.nii", True),
        ("../a.nii", False),
        ("s3://bucket/data/../a.nii", False),
        ("s3://bucket/data_2/a.nii", False),
        ("%2e%2e/a.nii", False),
        ("a.nii::file", False),
        ("/etc/passwd", False),
        ("file:///etc/passwd", False),
        ("https://host/a.nii", False),
    ],
)
def test_manifest_at_a_url(path, accepted):
    paths = ManifestPaths("s3://bucket/data")
    if accepted:
        assert paths.resolve(path, "volume")["path"] == "s3://bucket/data/a.nii"
    else:
        with pytest.raises(ManifestError):
            paths.resolve(path, "volume")


def test_a_trusted_manifest_can_be_written_again(folder):
    path = manifest(folder, "../other/a.mhd")
    (case,) = read_manifest(path, allow_outside=True)
    assert case["volume"] == {"path": str(folder.parent / "other" / "a.mhd"), "allow_outside": True}
    write_manifest([case], path)
    assert '"../other/a.mhd"' in path.read_text() and "allow_outside" not in path.read_text()


def test_a_manifest_cannot_allow_itself(folder):
    path = folder / "m.jsonl"
    case = dict(case_id="a", patient_id="a", split="train", volume=dict(path="a.mhd", allow_outside=True))
    path.write_text(json.dumps(case))
    with pytest.raises(ManifestError, match="allow_outside"):
        read_manifest(path)


def test_a_dicom_folder_with_links(folder, monkeypatch):
    (folder / "dicom").mkdir()
    (folder / "dicom" / "1.dcm").symlink_to(folder.parent / "other" / "a.nii")
    with pytest.raises(ManifestError, match="'dicom' is outside"):
        read_manifest(manifest(folder, "dicom"))
    assert read_manifest(manifest(folder, "dicom"), allow_outside=True)
    monkeypatch.setenv("CTVLM_DATA_ROOTS", str(folder.parent / "other"))
    assert read_manifest(manifest(folder, "dicom"))


def test_urls_among_the_data_roots(folder, monkeypatch):
    roots = ["/data/ct", "s3://bucket/ct", "filecache::s3://other/ct", "/data/b"]
    monkeypatch.setenv("CTVLM_DATA_ROOTS", ":".join(roots))
    assert files.data_roots() == roots
    for path in ("s3://bucket/ct/a.nii", "filecache::s3://other/ct/a.nii", "/data/b/a.nii"):
        assert read_manifest(manifest(folder, path))[0]["volume"] == {"path": path}
    with pytest.raises(ManifestError, match="CTVLM_DATA_ROOTS"):
        read_manifest(manifest(folder, "s3://bucket/ct2/a.nii"))


@pytest.mark.parametrize("name", ["a.mhd", "a.nrrd", "a.hdr", "a.img"])
def test_permission_includes_the_data_of_headers(folder, name):
    case = read_manifest(manifest(folder, name), allow_outside=True)[0]
    assert case["volume"] == {"path": str(folder / name), "allow_outside": True}
    (folder / name).write_bytes(b"")
    found = find_cases(folder / name, allow_outside=True).cases[0]
    assert found.entry["volume"] == {"path": str(folder / name), "allow_outside": True}
    assert find_cases(folder / name).cases[0].entry["volume"] == {"path": str(folder / name)}
