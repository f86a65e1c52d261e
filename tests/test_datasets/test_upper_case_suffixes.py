"""Upper-case file suffixes are supported."""

from __future__ import annotations

from ctvlm.anatomy import MentionLexicon, RegionScheme
from ctvlm.datasets.conversion.ct_rate_cot import cot_files
from ctvlm.datasets.conversion.ct_rate_files import find_volumes
from ctvlm.datasets.conversion.rad_chestct import rad_chestct_cases
from ctvlm.datasets.conversion.radgenome import region_files
from ctvlm.engine.cli.metrics_table import write_metrics
from ctvlm.evaluation.functional.studies import study_of
from ctvlm.evaluation.submissions.vlm3d import case_name, read_cases


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_converters(tmp_path):
    ct = touch(tmp_path / "dataset/valid_fixed/valid_1/valid_1_a/valid_1_a_1.NII.GZ")
    assert find_volumes(tmp_path, "auto")[:2] == ({"valid_1_a_1": ct}, "v2")

    mask = touch(tmp_path / "seg_valid_1_a_1/heart.NII.GZ")
    lexicon = MentionLexicon(RegionScheme.load("thorax_abdomen_20"))
    assert region_files(mask.parent, lexicon)[0] == {"heart": str(mask)}

    records = [touch(tmp_path / "cot" / name) for name in ("A.JSONL", "b.json")]
    assert cot_files([tmp_path / "cot"]) == records

    rad = touch(tmp_path / "rad/trn1.NPZ")
    table = "NoteAcc_DEID,nodule*left_upper\ntrn1.NPZ,1\n"
    (tmp_path / "rad/imgtrain_Abnormality_and_Location_Labels.csv").write_text(table)
    assert [case["volume"]["path"] for case in rad_chestct_cases(tmp_path / "rad").cases] == [str(rad)]


def test_case_names():
    assert case_name("valid_1_a_1.MHA") == case_name("valid_1_a_1.NII.GZ") == "valid_1_a_1"
    assert study_of("valid_1_a_1.NII.GZ") == "valid_1_a"


def test_metric_files_and_case_lists(tmp_path):
    write_metrics(tmp_path / "M.JSON", {"auroc": 0.5})
    write_metrics(tmp_path / "M.CSV", {"auroc": 0.5})
    assert '"auroc"' in (tmp_path / "M.JSON").read_text() and "auroc" in (tmp_path / "M.CSV").read_text()
    (tmp_path / "CASES.CSV").write_text("VolumeName\na.MHA\n")
    assert [case_name(name) for name in read_cases(tmp_path / "CASES.CSV")] == ["a"]
