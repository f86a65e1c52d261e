"""The commands on CTs, with a small released model."""

from __future__ import annotations

import csv
import json

import nibabel
import numpy as np
import pytest

from ctvlm.text.finding_labels import CT_RATE_LABELS

SOURCE = "thorax_abdomen_20"


@pytest.fixture
def use(ctvlm, released_model, phantoms, monkeypatch, tmp_path):
    """Runs a command on the phantoms with the small model, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(command, *arguments):
        outcome = ctvlm(command, *arguments, "--model", released_model, "--device", "cpu")
        assert "Traceback" not in outcome.err
        return outcome

    return run


def test_embed_writes_to_the_current_folder_and_resumes(use, phantoms, tmp_path):
    first = use("embed", phantoms, "--batch-size", 2)
    assert (first.code, first.out) == (0, "features: 2 done\n"), first.err
    with np.load(tmp_path / "features/p1.npz") as arrays:
        assert np.linalg.norm(arrays["volume"]) == pytest.approx(1, abs=1e-5)
        assert len(arrays["regions"]) == 20
    assert use("embed", phantoms, "--json").document["kept"] == 2


def test_embed_shards(use, phantoms, tmp_path):
    first = use("embed", phantoms, "-o", "out", "--shard", "1/2", "--format", "safetensors")
    assert "out: 1 done" in first.out and "1 cases of other shards are unfinished" in first.out
    assert [path.name for path in tmp_path.glob("out/*.safetensors")] == ["p1.safetensors"]
    wrong = use("embed", phantoms, "--shard", "2/2")
    assert wrong.code == 2 and "2/2" in wrong.err


def test_segment_one_ct_to_a_file(use, phantoms, tmp_path):
    ct, mask = phantoms / "p0/ct.nii.gz", phantoms / "p0/seg.nii.gz"
    predicted = use("segment", ct, "-o", "map.nii.gz")
    assert predicted.code == 0 and "predicted regions: map.nii.gz" in predicted.out, predicted.err
    given = use("segment", ct, "-o", "same.nii.gz", "--mask", mask, "--mask-source", SOURCE, "--json").document
    assert given["origin"] == "mask" and given["volumes_ml"]["liver"] > 100
    written, original = nibabel.load(tmp_path / "same.nii.gz"), nibabel.load(mask)
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(original.dataobj))
    np.testing.assert_allclose(written.affine, original.affine, atol=1e-4)
    assert nibabel.load(tmp_path / "map.nii.gz").shape == original.shape


def test_segment_a_folder(use, phantoms, tmp_path):
    assert use("segment", phantoms).out == "regions: 2 done\n"
    assert (tmp_path / "regions/p0.nii.gz").is_file() and (tmp_path / "regions/p1.json").is_file()
    both = use("segment", phantoms, "-o", "map.nii.gz")
    assert both.code == 2 and "2 CTs" in both.err


def test_classify(use, phantoms, tmp_path):
    ct = phantoms / "p0/ct.nii.gz"
    one = use("classify", ct, "--json").document["results"][0]
    assert set(one["probabilities"]) == set(CT_RATE_LABELS)
    table = use("classify", ct, "--finding", "emphysema", "--finding", "Cardiomegaly").out
    assert f"{one['probabilities']['Emphysema']:.2f}" in table and "Atelectasis" not in table
    several = use("classify", phantoms, "-o", "table.csv")
    assert several.code == 0 and "p1" in several.out
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [row["case_id"] for row in rows] == ["p0", "p1"]
    assert float(rows[0]["Emphysema"]) == pytest.approx(one["probabilities"]["Emphysema"], abs=1e-4)
    (tmp_path / "own.json").write_text(json.dumps({"[b]fluid": ["Fluid.", "No fluid."]}))
    assert "[b]fluid" in use("classify", ct, "--prompts", "own.json").out


def test_search_in_one_command_and_separately(use, phantoms, tmp_path):
    both = use("search", phantoms, "--text", "Pleural [i]effusion.", "--json").document
    assert both["added"]["done"] == 2 and both["queries"][0]["query"] == "Pleural [i]effusion."
    assert [hit["rank"] for hit in both["queries"][0]["hits"]] == [1, 2]
    assert (tmp_path / "ctvlm_index/index.json").is_file()
    assert use("search", "--text", "Effusion.", phantoms, "--index", "new", "--json").document["added"]["done"] == 2
    text = use("search", "--text", "Pleural [i]effusion.", "-k", 1)
    best = both["queries"][0]["hits"][0]
    assert "Pleural [i]effusion." in text.out and f"{best['score']:.3f}" in text.out
    like = use("search", "--like", phantoms / "p0/ct.nii.gz", "--json").document["queries"][0]
    assert [hit["case_id"] for hit in like["hits"]] == ["p1"]
    assert use("search", phantoms, "--index", "ctvlm_index").out == "index ctvlm_index: 2 already present\n"
    nothing = use("search")
    assert nothing.code == 2 and "--text" in nothing.err


def test_reason(use, phantoms):
    ct, mask = phantoms / "p0/ct.nii.gz", phantoms / "p0/seg.nii.gz"
    document = use("reason", ct, "--mask", mask, "--mask-source", SOURCE, "--json").document
    (result,) = document["results"]
    assert result["case_id"] == "ct" and isinstance(result["steps"], list)
    assert use("reason", ct).code == 0


def test_a_broken_case_among_others(use, phantoms, tmp_path):
    (tmp_path / "broken\x1b[31m.nii.gz").write_bytes(b"no image")
    inputs = [phantoms / "p0/ct.nii.gz", tmp_path / "broken\x1b[31m.nii.gz"]
    for command, out in (("embed", "x"), ("classify", "y.csv")):
        outcome = use(command, *inputs, "-o", out)
        assert outcome.code == 1 and "failed: broken" in outcome.err and "\x1b" not in outcome.err


@pytest.mark.parametrize("command", ["embed", "segment", "classify", "reason", "search", "view"])
def test_allow_outside_reaches_the_reader(use, phantoms, monkeypatch, command):
    import ctvlm.apis.inferencer as module
    import ctvlm.cli.view_pages as pages
    from ctvlm.apis import CaseInputError

    def find_cases(*_, allow_outside, **__):
        raise CaseInputError(f"allow_outside is {allow_outside}")

    monkeypatch.setattr(module, "find_cases", find_cases)
    monkeypatch.setattr(pages, "niivue_module", lambda: None)
    for flags, expected in (([], False), (["--allow-outside"], True)):
        outcome = use(command, phantoms / "p0/ct.nii.gz", *flags)
        assert outcome.code == 2 and f"allow_outside is {expected}" in outcome.err
