"""Every inferencer answers for a file, a folder and an array, and gives JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ctvlm.apis import (
    CaseInputError,
    FeatureExtractor,
    ReasoningInferencer,
    RegionSegmenter,
    ZeroShotClassifier,
)
from ctvlm.volume import read_ct

SOURCE = "thorax_abdomen_20"
KINDS = [FeatureExtractor, ZeroShotClassifier, RegionSegmenter, ReasoningInferencer]


@pytest.mark.parametrize("kind", KINDS)
def test_file_folder_and_array_give_the_same_result(model, phantom_files, kind):
    inferencer = kind(model)
    file = phantom_files / "p0" / "ct.nii.gz"
    one = inferencer(file).to_dict()
    folder = inferencer.run(phantom_files)
    assert [result.case_id for result in folder.results] == ["p0", "p1"] and folder.exit_code == 0
    ct = read_ct(file)
    array = inferencer.run(ct.array, affine=ct.affine).results[0]
    for other in (folder.results[0].to_dict(), array.to_dict()):
        assert flat(other) == pytest.approx(flat(one), rel=1e-3, abs=1e-4)
    assert json.loads(json.dumps(folder.to_dict()))["failures"] == []


def flat(content) -> list[float]:
    """All numbers of nested containers."""
    if isinstance(content, dict):
        return [number for value in content.values() for number in flat(value)]
    if isinstance(content, (list, tuple)):
        return [number for value in content for number in flat(value)]
    return [content] if isinstance(content, (int, float)) else []


@pytest.mark.parametrize("kind", KINDS)
def test_bad_case_is_reported_and_others_continue(model, phantom_files, tmp_path, kind):
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    files = [phantom_files / "p0" / "ct.nii.gz", tmp_path / "broken.nii.gz", phantom_files / "p1" / "ct.nii.gz"]
    run = kind(model).run(files)
    assert [result.case_id for result in run.results] == ["p0/ct", "p1/ct"] and run.exit_code == 1
    assert [failure.case_id for failure in run.failures] == ["broken"]
    assert str(tmp_path / "broken.nii.gz") in run.failures[0].reason


def test_classifier_uses_prompts_of_the_protocol_or_of_the_user(model, phantom_files):
    ct = phantom_files / "p0" / "ct.nii.gz"
    classify = ZeroShotClassifier(model)
    assert len(classify(ct).probabilities) == 18 and classify(ct).protocol == "ctvlm"
    classify.set_findings(["pleural effusion", "Emphysema"], "ct_clip")
    by_protocol = classify(ct).probabilities
    assert list(by_protocol) == ["Pleural effusion", "Emphysema"]
    classify.set_findings({"fluid": ["Pleural effusion is present.", "Pleural effusion is not present."]})
    assert classify(ct).probabilities["fluid"] == pytest.approx(by_protocol["Pleural effusion"], abs=1e-6)
    classify.set_findings({"Pleural effusion": None}, "ct_clip")
    assert classify(ct).probabilities == pytest.approx({"Pleural effusion": by_protocol["Pleural effusion"]}, abs=1e-6)
    classify.set_findings(protocol="fvlm")
    assert len(classify(ct).probabilities) == 16
    with pytest.raises(CaseInputError, match=r"did you mean Emphysema\?.*Atelectasis"):
        classify.set_findings(["Emphysem"])
    with pytest.raises(CaseInputError, match=r"did you mean Emphysema\?.*Atelectasis"):
        classify.set_findings({"Emphysem": None})
    with pytest.raises(CaseInputError, match=r"did you mean ct_clip.*radfinder"):
        classify.set_findings(protocol="ctclip")
    with pytest.raises(CaseInputError, match="expected .present, absent."):
        classify.set_findings({"a": ["only one"]})


def test_features_are_saved_and_kept(model, phantom_files, tmp_path):
    extract = FeatureExtractor(model)
    assert extract.save(phantom_files, tmp_path / "out").count("done") == 2
    assert extract.save(phantom_files, tmp_path / "out").count("kept") == 2
    with np.load(tmp_path / "out" / "p0.npz", allow_pickle=False) as data:
        np.testing.assert_allclose(data["volume"], extract(phantom_files / "p0" / "ct.nii.gz").volume, atol=1e-5)
        assert json.loads(str(data["record"]))["region_names"][11] == "liver"
