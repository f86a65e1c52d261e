"""Any change of a manifest line is a ManifestError, or the case is loaded or refused by an error of the project."""

from __future__ import annotations

import json
import warnings

import pytest

from ctvlm.datasets import ManifestCT, read_manifest
from ctvlm.datasets.manifest import ManifestError
from ctvlm.datasets.manifest_values import MAX_DEPTH
from ctvlm.utils import CTVLMError

PIPELINE = [dict(type="LoadCT"), dict(type="ResampleCT", shape=(8, 16, 16)), dict(type="PackCTInputs")]
VALUES = [None, True, -1, 10**6, 1.5, "", "x" * 300, [], [None], {"x": [1]}]


def line(case_folder) -> dict:
    case = json.loads((case_folder / "cases.jsonl").read_text().split("\n")[1])
    case["volume"] = dict(path=case["volume"], rescale=[1, 0], spacing=[4, 2, 2], check_range=False, key="a")
    case["volume"] |= dict(axes="RAS", affine=[[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1]], modality="CT")
    case["source"] = "here"
    case["cot"][0] |= dict(normal=False, question="Which?", stage="reason")
    case["extra"] = dict(sets=["all"], labels_source="reports", region_kept={"5": 0.5}, text_origin="given")
    return case


def places(value, path=()):
    """Every position in a nested value."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def mutated(case: dict, path: tuple, value) -> dict:
    case = json.loads(json.dumps(case))
    inner = case
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return case


def load(path, allowed=(CTVLMError, ValueError, OSError)) -> str:
    """What became of a manifest: refused by the reader, loaded, or refused when it is loaded."""
    try:
        read_manifest(path)
    except ManifestError as error:
        assert str(path) in str(error)
        return "refused"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ManifestCT(str(path), pipeline=PIPELINE)[0]
        return "loaded"
    except allowed as error:
        assert not isinstance(error, UnicodeError) and str(error)
        return "refused later"


@pytest.mark.slow
def test_changed_values(case_folder):
    """152 changes of a line: 34 passed the reader and failed later with errors of Python or NumPy."""
    case, path = line(case_folder), case_folder / "m.jsonl"
    found = {"refused": 0, "loaded": 0, "refused later": 0}
    for place in places(case):
        for value in VALUES:
            path.write_text(json.dumps(mutated(case, place, value)))
            found[load(path)] += 1
    assert found["refused"] > 300, found


BAD = {
    "regions of numbers": dict(cot=[dict(text="a", regions=[1])]),
    "entities of objects": dict(cot=[dict(text="a", entities=[{}])]),
    "a step number of text": dict(cot=[dict(text="a", step="one")]),
    "a lesion out of range": dict(cot=[dict(text="a", lesion=10**6)]),
    "a source of numbers": dict(source=[1]),
    "extra of text": dict(extra="x"),
    "sets of numbers": dict(extra=dict(sets=[1])),
    "sets of text": dict(extra=dict(sets=3)),
    "a label source of objects": dict(extra=dict(labels_source={})),
    "kept regions of text": dict(extra=dict(region_kept={"5": "half"})),
    "a rescale of three": dict(volume=dict(path="a.nii", rescale=[1, 2, 3])),
    "a rescale by zero": dict(volume=dict(path="a.nii", rescale=[0, 0])),
    "a spacing of text": dict(volume=dict(path="a.nii", spacing="1 1 1")),
    "a spacing of zero": dict(volume=dict(path="a.nii", spacing=[0, 1, 1])),
    "axes of one letter": dict(volume=dict(path="a.nii", axes="LLL")),
    "an affine of 3 rows": dict(volume=dict(path="a.nii", affine=[[1, 0, 0, 0]] * 3)),
    "a key of numbers": dict(volume=dict(path="a.nii", key=3)),
    "a range check of text": dict(volume=dict(path="a.nii", check_range="no")),
    "a modality of numbers": dict(volume=dict(path="a.nii", modality=1)),
    "a map's source of numbers": dict(region_map=dict(path="a.nii", source=2)),
    "a lesion name of numbers": dict(lesion_masks=[dict(path="a.nii", name=1)]),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_types_are_refused_by_the_reader(tmp_path, name):
    case = dict(case_id="a", patient_id="a", split="train", volume="a.nii")
    (tmp_path / "m.jsonl").write_text(json.dumps(case | BAD[name]))
    with pytest.raises(ManifestError, match="line 1"):
        read_manifest(tmp_path / "m.jsonl")


TEXTS = {
    "deep": '{"extra": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "deeper than allowed": '{"extra": {"a": ' + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1) + "}}",
    "long number": '{"extra": {"a": ' + "1" * 10_000 + "}}",
    "long float": '{"extra": {"a": 1' + "0" * 5_000 + ".0}}",
    "large number": '{"extra": {"a": 99999999999999999999}}',
    "NaN": '{"labels": {"a": NaN}}',
    "infinity": '{"extra": {"a": 1e999}}',
    "lone surrogate": '{"case_id": "\\ud800"}',
    "lone surrogate in a key": '{"extra": {"\\udfff": 1}}',
    "not an object": "[1]",
    "number": "1",
    "cut": '{"case_id": "a',
    "two values": "{} {}",
}


@pytest.mark.parametrize("name", TEXTS)
def test_unusual_json(tmp_path, name):
    text = TEXTS[name]
    if text.startswith('{"') and text.endswith("}"):
        keys = dict(case_id="a", patient_id="a", split="train", volume="a.nii")
        text = "".join(f', "{k}": "{v}"' for k, v in keys.items() if f'"{k}"' not in text).join((text[:-1], "}"))
    (tmp_path / "m.jsonl").write_text(text)
    with pytest.raises(ManifestError, match=r"m\.jsonl, line 1"):
        read_manifest(tmp_path / "m.jsonl")


def test_a_file_of_windows(tmp_path):
    case = dict(case_id="a", patient_id="a", split="train", volume="a.nii")
    (tmp_path / "m.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(case).encode() + b"\r\n")
    assert len(read_manifest(tmp_path / "m.jsonl")) == 1


def test_an_unknown_source_names_the_case(case_folder):
    case = line(case_folder) | {"region_map": dict(path="p1/seg.nii.gz", source="totalsegmentator_v9")}
    case["volume"] = "p1/ct.nii.gz"
    (case_folder / "m.jsonl").write_text(json.dumps(case))
    with pytest.raises(ValueError, match=r"p1/seg\.nii\.gz.*totalsegmentator_v9"):
        ManifestCT(str(case_folder / "m.jsonl"), pipeline=PIPELINE)[0]
