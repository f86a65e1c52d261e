"""User errors of every command on CTs: one line on stderr, exit code 2, nothing on stdout."""

from __future__ import annotations

import sys

import pytest

SOURCE = "thorax_abdomen_20"
COMMANDS = ["embed", "classify", "segment", "reason", "search"]


@pytest.fixture
def fail(ctvlm, released_model, monkeypatch, tmp_path):
    """Runs a command that must fail; returns the line of the error."""
    monkeypatch.chdir(tmp_path)

    def run(command, *arguments, model=released_model):
        outcome = ctvlm(command, *arguments, "--model", model, "--device", "cpu", "--json")
        assert (outcome.code, outcome.out) == (2, "")
        assert "Traceback" not in outcome.err
        lines = [line for line in outcome.err.splitlines() if not line.startswith("(")]
        assert len(lines) == 1 and lines[0].startswith("error: ")
        return lines[0]

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_inputs(fail, phantoms, tmp_path, command):
    (tmp_path / "empty").mkdir()
    assert "nowhere.nii.gz" in fail(command, "nowhere.nii.gz")
    assert "empty" in fail(command, "empty")
    ct, other = phantoms / "p0/ct.nii.gz", phantoms / "p1/seg.nii.gz"
    assert "mask_source" in fail(command, ct, "--mask", other)
    assert "vessels" in fail(command, ct, "--mask", other, "--mask-source", "vessels")


@pytest.mark.parametrize("command", COMMANDS)
def test_real_mr_and_mask_of_another_patient(fail, shared_data, command):
    assert "not_hu" in fail(command, shared_data / "ct/not_hu/example_mr_sm.nii.gz")
    ct, mask = "ct/xcist_chest_siemens", "ct/ts_small_117/example_seg.nii.gz"
    (ct,) = (shared_data / ct).glob("*.nii.gz")
    assert "mask" in fail(command, ct, "--mask", shared_data / mask, "--mask-source", "totalsegmentator_v2").lower()


@pytest.mark.parametrize("command", COMMANDS)
def test_models(fail, phantoms, tmp_path, released_model, command):
    ct = phantoms / "p0/ct.nii.gz"
    assert "nowhere.pth" in fail(command, ct, model="nowhere.pth")
    assert "vit3d_cot_contrastive" in fail(command, ct, model="vit3d_cot_contrastve")
    error = fail(command, ct, "--checkpoint", released_model, model="vit3d_cot_contrastive")
    assert str(released_model) in error and "omit the config" in error
    # Probabilities of random weights would look like results.
    assert "--checkpoint" in fail(command, ct, model="vit3d_cot_contrastive")


def test_table_suffix_is_checked_before_the_cts_are_read(fail, phantoms, monkeypatch):
    monkeypatch.setattr("ctvlm.apis.ZeroShotClassifier.run", lambda *args, **kwargs: pytest.fail("ran"))
    assert "probs.json" in fail("classify", phantoms / "p0/ct.nii.gz", "-o", "probs.json")


def test_a_missing_package_is_one_line(fail, tmp_path, monkeypatch):
    (tmp_path / "ct.mha").write_bytes(b"ObjectType = Image\n")
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    assert "SimpleITK" in fail("classify", "ct.mha")


def test_findings_and_protocols(fail, phantoms, tmp_path):
    ct = phantoms / "p0/ct.nii.gz"
    assert "did you mean Emphysema" in fail("classify", ct, "--finding", "Emphysem")
    assert "ct_clip" in fail("classify", ct, "--protocol", "ctclip")
    assert "nowhere.json" in fail("classify", ct, "--prompts", "nowhere.json")
    (tmp_path / "list.json").write_text("[1]")
    assert "list.json" in fail("classify", ct, "--prompts", "list.json")
    assert "table.txt" in fail("classify", ct, "--out", "table.txt")


def test_index(fail, tmp_path):
    assert "index" in fail("search", "--text", "Effusion.")


def test_device(ctvlm, phantoms, released_model):
    outcome = ctvlm("embed", phantoms, "--model", released_model, "--device", "gpu")
    assert outcome.code == 2 and "--device gpu" in outcome.err
