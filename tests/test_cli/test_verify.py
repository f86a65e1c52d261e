from __future__ import annotations

import json

from ctvlm.phantom import PhantomCT
from ctvlm.volume import CTVolume, write_nifti


def manifest(folder, names):
    """Phantoms on disk; the name of a case may contain markup and escape sequences."""
    data = PhantomCT(num_cases=1, split="own", shape=(8, 24, 24), num_workers=0, cache=False)
    case = data.results(0)
    write_nifti(CTVolume(case["volume"], case["affine"]), folder / "ct.nii.gz")
    lines = [dict(case_id=name, patient_id=name, split="val", volume="ct.nii.gz") for name in names]
    (folder / "cases.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder / "cases.jsonl"


def test_json_and_file(ctvlm, tmp_path):
    path = manifest(tmp_path, ["a"])
    outcome = ctvlm("verify", path, "--json", "--out", tmp_path / "problems.json")
    problems = outcome.document["problems"]
    assert outcome.document["cases"] == 1 and outcome.code == int(bool(problems))
    assert json.loads((tmp_path / "problems.json").read_text()) == problems


def test_markup_and_control_characters_of_a_case_are_printed_as_text(ctvlm, tmp_path):
    name = "[red]a[/red]\x1b[2J"
    path = manifest(tmp_path, [name])
    (tmp_path / "ct.nii.gz").unlink()
    outcome = ctvlm("verify", path)
    assert outcome.code == 1
    assert "[red]a[/red]" in outcome.out and r"\x1b" in outcome.out and "\x1b" not in outcome.out


def test_missing_manifest_is_one_message(ctvlm, tmp_path):
    outcome = ctvlm("verify", tmp_path / "nowhere.jsonl")
    assert "nowhere.jsonl" in outcome.out + outcome.err and "Traceback" not in outcome.err
    assert outcome.code == 2
