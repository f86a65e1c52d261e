"""User errors of every command on CTs: one line on stderr, exit code 2, nothing on stdout, no result."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from ctvlm.apis import init_model
from ctvlm.engine.checkpoint.release import write_release
from ctvlm.volume import CTVolume, read_label_map, write_nifti
from tests.released import small_config

SOURCE = "thorax_abdomen_20"
COMMANDS = ["embed", "classify", "search", "segment", "reason", "view"]
# Arguments, with the names of ``files`` in braces, and parts of the line of the error.
CASES = {
    "wrong path": ("nowhere.nii.gz", ["nowhere.nii.gz: no such file or folder"]),
    "empty folder": ("{empty}", ["empty: found no CT", ".nii.gz"]),
    "MR": ("{mr}", ["mr.nii.gz", "found values", "expected Hounsfield units"]),
    "wrong path of a mask": ("{ct} --mask nowhere.nii.gz --mask-source {source}", ["nowhere.nii.gz: no such file"]),
    "mask of another place": ("{ct} --mask {far} --mask-source {source}", ["far.nii.gz", "another scan"]),
    "mask of another patient": ("{ct} --mask {wrong} --mask-source {source}", ["wrong.nii.gz", "another scan"]),
    "unknown model": ("{ct} --model vit3d_cot_contrastve", ["vit3d_cot_contrastve", "did you mean vit3d_cot_contrast"]),
    "checkpoint of another config": (
        "{ct} --model vit3d_cot_contrastive --checkpoint {released}",
        ["{released}", "does not fit", "omit the config"],
    ),
}
MORE_CASES = {
    "empty file": ("{zero}", ["zero.nii.gz", "found"]),
    "no image": ("{damaged}", ["damaged.nii.gz", "found"]),
    "another file type": ("{notes}", ["notes.txt", "expected", ".nii.gz"]),
    "folder without CTs": ("{other}", ["other: found no CT", ".nii.gz"]),
    "empty manifest": ("{manifest}", ["cases.jsonl: found 0 cases; expected one case"]),
    "folder of an MR": ("{scans}", ["mr.nii.gz", "found values", "expected Hounsfield units"]),
    "CT as mask": ("{ct} --mask {ct} --mask-source {source}", ["ct.nii.gz: found ids", "expected ids"]),
    "mask without source": ("{ct} --mask {seg}", ["mask_source is missing", "totalsegmentator_v2"]),
    "unknown source": ("{ct} --mask {seg} --mask-source vessels", ["'vessels'", "totalsegmentator_v2"]),
    "ids of another source": ("{ct} --mask {large} --mask-source {source}", ["large.nii.gz", "200"]),
    "folder of other files as mask": ("{ct} --mask {empty}", ["empty", "liver.nii.gz"]),
    "one mask for a folder": ("{folder} --mask {seg} --mask-source {source}", ["2 CTs", "expected one"]),
    "wrong path of a checkpoint": ("{ct} --model nowhere.pth", ["nowhere.pth"]),
    "damaged checkpoint": ("{ct} --model {pth}", ["damaged.pth", "it is no PyTorch file"]),
    "empty folder as model": ("{ct} --model {empty}", ["empty"]),
    "config without weights": ("{ct} --model vit3d_cot_contrastive", ["vit3d_cot_contrastive", "--checkpoint"]),
    "two checkpoints": ("{ct} --checkpoint {released}", ["two checkpoints"]),
    "unknown device": ("{ct} --device gpu", ["--device gpu"]),
}
OF_ONE = {
    "unknown finding": ("classify {ct} --finding Emphysem", ["did you mean Emphysema"]),
    "unknown protocol": ("classify {ct} --protocol ctclip", ["did you mean ct_clip"]),
    "wrong path of prompts": ("classify {ct} --prompts nowhere.json", ["nowhere.json"]),
    "prompts of a wrong type": ("classify {ct} --prompts {list}", ["list.json", "expected an object"]),
    "prompts of one text": ("classify {ct} --prompts {one}", ["'fluid'", "[present, absent]"]),
    "suffix of a table": ("classify {ct} --out table.txt", ["table.txt", ".csv"]),
    "suffix of a page": ("view {ct} --out page.png", ["page.png", ".html"]),
    "several CTs for a page": ("view {folder}", ["2 CTs", "--serve"]),
    "several CTs for one map": ("segment {folder} --out map.nii.gz", ["2 CTs"]),
    "no index": ("search --text Effusion.", ["ctvlm_index", "empty index"]),
    "wrong path of an index": ("view {ct} --index nowhere", ["nowhere", "index"]),
    "another folder as index": ("search --text Effusion. --index {other}", ["other", "index.json"]),
    "wrong path of a query": ("search --like nowhere.nii.gz", ["nowhere.nii.gz: no such file"]),
    "shard": ("embed {ct} --shard 2/2", ["2/2"]),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory, phantoms, released_model):
    """Paths for the arguments, by name."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("empty", "other", "scans"):
        (folder / name).mkdir()
    ct, seg = phantoms / "p0" / "ct.nii.gz", phantoms / "p0" / "seg.nii.gz"
    noise = np.random.default_rng(0).integers(0, 900, (12, 40, 40)).astype(np.int16)
    mr, mask = CTVolume(noise, np.diag([3.0, 3.0, 5.0, 1.0])), read_label_map(seg)
    for path in (folder / "mr.nii.gz", folder / "scans" / "mr.nii.gz"):
        write_nifti(mr, path)
    moved = mask.affine.copy()
    moved[2, 3] += 5000
    write_nifti(CTVolume(mask.array, moved), folder / "far.nii.gz")
    write_nifti(mask.with_array(np.ascontiguousarray(mask.array[::-1, ::-1])), folder / "wrong.nii.gz")
    write_nifti(mask.with_array(np.where(mask.array == 12, 200, mask.array).astype(np.uint8)), folder / "large.nii.gz")
    for name, text in {
        "zero.nii.gz": "",
        "damaged.nii.gz": "no image",
        "damaged.pth": "no checkpoint",
        "notes.txt": "text",
        "other/notes.txt": "text",
        "cases.jsonl": "",
        "list.json": "[1]",
        "one.json": '{"fluid": ["Fluid."]}',
    }.items():
        (folder / name).write_text(text)
    paths = {name: folder / f"{name}.nii.gz" for name in ("far", "wrong", "large", "zero", "damaged", "mr")}
    paths |= {name: folder / name for name in ("empty", "other", "scans")}
    paths |= dict(notes=folder / "notes.txt", manifest=folder / "cases.jsonl", pth=folder / "damaged.pth")
    paths |= dict(list=folder / "list.json", one=folder / "one.json", folder=phantoms, released=released_model)
    return {name: str(path) for name, path in dict(paths, ct=ct, seg=seg).items()} | {"source": SOURCE}


@pytest.fixture
def fail(ctvlm, files, monkeypatch, tmp_path):
    """Runs a command that must fail; returns the line of the error."""
    monkeypatch.chdir(tmp_path)

    def run(command: str) -> str:
        if command.startswith("view"):
            pytest.importorskip("ipyniivue", reason="the viewer needs ipyniivue: pip install 'ctvlm[viewer]'")
        words = [word.format(**files) for word in command.split()]
        for name, value in (("--model", files["released"]), ("--device", "cpu")):
            words += [] if name in words else [name, value]
        outcome = ctvlm(*words, *([] if words[0] == "view" else ["--json"]))
        assert (outcome.code, outcome.out) == (2, ""), outcome.err
        assert "Traceback" not in outcome.err
        # Only the reason of a failure may be written.
        assert all(path.is_dir() or path.name.endswith(".failed.json") for path in tmp_path.rglob("*"))
        lines = [line for line in outcome.err.splitlines() if not line.startswith("(")]
        assert len(lines) == 1 and lines[0].startswith("error: "), outcome.err
        return lines[0]

    return run


def _combinations():
    """Common errors with all commands; the others, which the commands share, with one command in a fast run."""
    yield from ((command, case) for command in COMMANDS for case in CASES)
    for command in COMMANDS:
        marks = [] if command == "classify" else [pytest.mark.slow]
        yield from (pytest.param(command, case, marks=marks) for case in MORE_CASES)


@pytest.mark.parametrize(("command", "case"), list(_combinations()))
def test_errors_of_all_commands(fail, files, command, case):
    arguments, parts = (CASES | MORE_CASES)[case]
    line = fail(f"{command} {arguments}")
    assert not [part for part in parts if part.format(**files) not in line], line


@pytest.mark.parametrize("case", OF_ONE)
def test_errors_of_one_command(fail, case):
    arguments, parts = OF_ONE[case]
    line = fail(arguments)
    assert not [part for part in parts if part not in line], line


@pytest.mark.parametrize("command", COMMANDS)
def test_real_mr_and_mask_of_another_patient(fail, shared_data, command):
    mr = shared_data / "ct/not_hu/example_mr_sm.nii.gz"
    line = fail(f"{command} {mr}")
    assert str(mr) in line and "MR" in line
    (ct,) = (shared_data / "ct/xcist_chest_siemens").glob("*.nii.gz")
    mask = shared_data / "ct/ts_small_117/example_seg.nii.gz"
    line = fail(f"{command} {ct} --mask {mask} --mask-source totalsegmentator_v2")
    assert str(mask) in line and "another scan" in line


def test_checkpoint_file_of_another_config(fail, files, tmp_path_factory):
    """The config has another width than the checkpoint."""
    import torch

    cfg = small_config()
    path = tmp_path_factory.mktemp("other") / "epoch_1.pth"
    torch.save(dict(state_dict=init_model(cfg, device="cpu").state_dict(), meta=dict(cfg=cfg.pretty_text)), path)
    line = fail(f"classify {files['ct']} --model vit3d_cot_contrastive --checkpoint {path}")
    assert str(path) in line and "omit the config" in line


def test_model_without_the_head_of_a_command(fail, files, tmp_path_factory):
    cfg = small_config()
    for name in ("generation", "voxels"):
        cfg.model.objectives.pop(name)
    model = init_model(cfg, device="cpu")
    model.fit_tokenizer(["The heart is normal."] * 4)
    folder = write_release(tmp_path_factory.mktemp("plain") / "m", model.cfg, model.state_dict(), [], False)
    assert "generates no text" in fail(f"reason {files['ct']} --model {folder}")


def test_table_suffix_is_checked_before_the_cts_are_read(fail, monkeypatch):
    monkeypatch.setattr("ctvlm.apis.ZeroShotClassifier.run", lambda *args, **kwargs: pytest.fail("ran"))
    assert "probs.json" in fail("classify {ct} -o probs.json")


def test_a_missing_package_is_one_line(fail, tmp_path_factory, monkeypatch):
    path = tmp_path_factory.mktemp("mha") / "ct.mha"
    path.write_bytes(b"ObjectType = Image\n")
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    assert "SimpleITK" in fail(f"classify {path}")


def test_index_of_another_model(fail, ctvlm, files, tmp_path_factory):
    index = tmp_path_factory.mktemp("index") / "index"
    made = ctvlm("search", files["ct"], "--model", files["released"], "--device", "cpu", "--index", index)
    assert made.code == 0, made.err
    text = (index / "index.json").read_text()
    (index / "index.json").write_text(text.replace('"model": "', '"model": "0'))
    for command in ("search --text Effusion.", "view {ct}"):
        assert "index of another model" in fail(f"{command} --index {index}")
