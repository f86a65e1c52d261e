import csv
import gzip
import json
import math

import nibabel as nib
import numpy as np
import pytest

from ctvlm.evaluation.submissions import (
    case_name,
    check_classification,
    check_reports,
    check_rex,
    read_cases,
    read_labels,
    read_submission,
    score_classification,
    write_classification,
    write_reports,
    write_rex_masks,
)
from ctvlm.text.finding_labels import CT_RATE_LABELS
from ctvlm.volume import CTVolume

CASES = ["a", "b", "c"]


def probabilities(seed=0):
    rng = np.random.default_rng(seed)
    return {case: dict(zip(CT_RATE_LABELS, rng.random(18), strict=True)) for case in CASES}


@pytest.fixture
def submission(tmp_path):
    path = tmp_path / "out" / "submission.json"
    write_classification(path, probabilities())
    return read_submission(path)


def errors(problems):
    return [str(problem) for problem in problems if problem.fatal]


def test_classification_round_trip(submission):
    assert list(submission) == ["name", "type", "version", "predictions"]
    assert submission["version"] == {"major": 1, "minor": 0}
    assert {e["input_image_name"]: e["probabilities"] for e in submission["predictions"]} == probabilities()
    assert check_classification(submission, CASES) == []
    assert check_classification(submission, [f"{case}.mha" for case in CASES]) == []


def test_wrapper_of_the_platform_is_removed(tmp_path, submission):
    path = tmp_path / "wrapped.json"
    path.write_text(json.dumps([{"outputs": [{"value": submission}]}]))
    assert read_submission(path) == submission


def test_a_missing_case_is_reported(submission):
    del submission["predictions"][1]
    (error,) = errors(check_classification(submission, CASES))
    assert error.startswith("error: b: missing")


def test_a_case_with_and_without_suffix_is_reported(submission):
    submission["predictions"].append(dict(submission["predictions"][0], input_image_name="a.mha"))
    problems = check_classification(submission, CASES)
    (error,) = errors(problems)
    assert error.startswith("error: a: ") and "2 entries ('a', 'a.mha')" in error
    assert any(not p.fatal and "suffix ('a.mha')" in p.what for p in problems)


def test_a_probability_of_1_2_is_reported(submission):
    submission["predictions"][2]["probabilities"]["Emphysema"] = 1.2
    (error,) = errors(check_classification(submission))
    assert error.startswith("error: c: ") and "'Emphysema' is 1.2" in error


@pytest.mark.parametrize("value", [math.nan, None, "0.5", True, -0.1])
def test_invalid_probabilities_are_reported(submission, value):
    submission["predictions"][0]["probabilities"]["Emphysema"] = value
    assert len(errors(check_classification(submission))) == 1


def test_findings_and_names_are_checked(submission):
    values = submission["predictions"][0]["probabilities"]
    values["emphysema"] = values.pop("Emphysema")
    submission["predictions"].append({"input_image_name": "", "probabilities": {}})
    submission["predictions"].append({"input_image_name": "stranger"})
    submission["type"] = "Report generation"
    found = "\n".join(errors(check_classification(submission, CASES)))
    for part in ("'Emphysema'", "'emphysema'", "predictions[3]", "stranger", "type:"):
        assert part in found


def test_writers_reject_invalid_submissions(tmp_path):
    values = probabilities()
    values["a"]["Emphysema"] = 1.2
    with pytest.raises(ValueError, match="Emphysema.*1.2"):
        write_classification(tmp_path / "x.json", values)
    del values["a"]["Emphysema"]
    with pytest.raises(ValueError, match="a: .*Emphysema"):
        write_classification(tmp_path / "x.json", values)
    with pytest.raises(ValueError, match=r"x\.json.*a: .*empty"):
        write_reports(tmp_path / "x.json", {"a": " "})
    assert list(tmp_path.iterdir()) == []


def test_reports_round_trip(tmp_path):
    path = tmp_path / "reports.json"
    write_reports(path, {"a": "Clear lungs.", "b.nii.gz": "Größe normal."}, suffix=".mha")
    content = read_submission(path)
    assert [e["input_image_name"] for e in content["generated_reports"]] == ["a.mha", "b.mha"]
    assert check_reports(content, ["a", "b"]) == []
    content["generated_reports"][0]["report"] = None
    assert len(errors(check_reports(content, CASES))) == 2
    assert read_cases(path) == ["a.mha", "b.mha"]


def test_case_names():
    assert [case_name(n) for n in ("x.mha", "x.nii.gz", "x.nii", "x", "1.2.3.mha")] == ["x", "x", "x", "x", "1.2.3"]


def test_scores_of_the_example_ground_truth(shared_data, tmp_path):
    folder = shared_data / "text" / "vlm3d"
    truth = read_labels(folder / "classification_example" / "ground_truth.csv")
    (case,) = read_cases(folder / "classification_example" / "ground_truth.csv")
    path = tmp_path / "s.json"
    # One label of 18 is positive: r = 17/2, U = 17/2. Two are predicted, one correctly: s = 17/2 - 1, CRG = 8.5 / 9.5.
    write_classification(path, {case: {label: 0.9 if "Lung" in label else 0.1 for label in CT_RATE_LABELS}})
    scores = score_classification(read_submission(path), truth)
    assert scores["crg"] == pytest.approx(8.5 / 9.5)
    assert scores["accuracy"] == pytest.approx(17 / 18)
    assert scores["f1"] == pytest.approx(1 / 18)
    assert math.isnan(scores["auroc"])  # a single case has one class per finding
    example = read_submission(folder / "report_generation_example" / "ground_truth.json")
    assert errors(check_reports(example, [case])) == []


def test_rejects_other_files(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match=r"a\.json.*JSON"):
        read_submission(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("[1]")
    with pytest.raises(ValueError, match="outputs"):
        read_submission(tmp_path / "b.json")
    (tmp_path / "c.csv").write_text("name\nx\n")
    with pytest.raises(ValueError, match="AccessionNo"):
        read_cases(tmp_path / "c.csv")


@pytest.fixture
def rex(tmp_path):
    """A CT in LPI orientation, and its masks in RAS+."""
    affine = np.diag([-1.5, -1.5, -3.0, 1])
    affine[:3, 3] = 20, 30, 40
    ct = tmp_path / "ct.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((6, 5, 4), np.int16), affine), ct)
    mask = np.zeros((6, 5, 4), np.uint8)
    mask[1, 2, 3], mask[2, 2, 3] = 1, 2
    ras = CTVolume(mask[::-1, ::-1, ::-1].transpose(2, 1, 0), affine @ flip((6, 5, 4)))
    folder = tmp_path / "masks"
    write_rex_masks(folder / "case_1.nii.gz", [ras, ras.with_array(ras.array * 0)], ct)
    dataset = tmp_path / "dataset.json"
    entry = {"name": "case_1.nii.gz", "findings": {"0": "a nodule", "1": "another"}, "shape": [6, 5, 4]}
    dataset.write_text(json.dumps({"test": [entry]}))
    return folder, dataset, mask


def flip(shape):
    matrix = np.diag([-1.0, -1, -1, 1])
    matrix[:3, 3] = np.array(shape) - 1
    return matrix


def test_rex_masks_are_on_the_grid_of_the_ct_file(rex):
    folder, dataset, mask = rex
    written = np.asanyarray(nib.load(folder / "case_1.nii.gz").dataobj)
    assert written.shape == (2, 6, 5, 4)
    assert (written[0] == mask).all()
    (warning,) = check_rex(folder, dataset)
    assert str(warning).startswith("warning: case_1.nii.gz: ") and "finding 1" in warning.what


def test_rex_problems_are_reported(rex):
    folder, dataset, _ = rex
    path = folder / "case_1.nii.gz"

    def saved(values):
        nib.save(nib.Nifti1Image(values, np.eye(4)), path)
        return "\n".join(errors(check_rex(folder, dataset)))

    assert "(F, H, W, D) = (2, 6, 5, 4)" in saved(np.ones((6, 5, 4, 2), np.uint8))
    assert "integers" in saved(np.full((2, 6, 5, 4), 0.3, np.float32))
    (folder / "case_9.nii.gz").write_bytes(b"")
    path.write_bytes(gzip.compress(b"x" * 500)[:-20])
    found = "\n".join(errors(check_rex(folder, dataset)))
    assert "case_1.nii.gz: cannot be read" in found
    assert "case_9.nii.gz" in found
    path.unlink()
    assert "case_1.nii.gz: missing" in "\n".join(errors(check_rex(folder, dataset)))
    with pytest.raises(ValueError, match="val"):
        check_rex(folder, dataset, "val")


def test_labels_may_be_empty(tmp_path):
    with open(tmp_path / "t.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["AccessionNo", *CT_RATE_LABELS])
        writer.writerow(["x.mha", *["1", "", *["0"] * 16]])
    labels = read_labels(tmp_path / "t.csv")["x"]
    assert labels["Medical material"] == 1
    assert math.isnan(labels["Arterial wall calcification"])
