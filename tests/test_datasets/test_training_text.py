"""Training uses the given text, and measured text only for cases without text."""

from __future__ import annotations

import json

import pytest
from mmengine.dataset import pseudo_collate

from ctvlm.datasets.training_text import FINDINGS, GIVEN_STEPS, IMPRESSION, NO_TEXT, text_source, with_steps
from ctvlm.engine import load_config
from ctvlm.registry import DATASETS

STEP = dict(text="A cyst.", regions=[], entities=[], lesion=None)


@pytest.mark.parametrize(
    ("case", "source", "texts"),
    [
        (dict(report=dict(findings="1. Cyst.\n2. Scar.", impression="I.")), FINDINGS, ["Cyst.", "Scar."]),
        (dict(report=dict(findings="Not given.", impression="Cyst. Scar.")), IMPRESSION, ["Cyst.", "Scar."]),
        (dict(report=dict(findings="Scar."), cot=[STEP]), GIVEN_STEPS, ["A cyst."]),
        (dict(report=dict(findings=" "), cot=[]), NO_TEXT, []),
        (dict(report=None), NO_TEXT, []),
    ],
)
def test_text_source(case, source, texts):
    assert text_source(case) == source
    assert [step["text"] for step in with_steps(case).get("cot") or []] == texts


def batch_of(folder, repo_root, report):
    path = folder / "cases.jsonl"
    cases = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    cases[0]["report"] = report
    path.write_text("\n".join(map(json.dumps, cases)), encoding="utf-8")
    spec = load_config(repo_root / "configs" / "vit3d_cot_contrastive_manifest.py").train_dataloader.dataset
    dataset = DATASETS.build({**spec, "ann_file": str(path)})
    batch = pseudo_collate([dataset[i] for i in range(len(dataset))])
    return {sample.case_id: sample for sample in batch["data_samples"]}, dataset.texts()


def test_given_findings_are_used(case_folder, repo_root):
    given = ["A cyst of 5 mm in the right kidney.", "The liver is normal."]
    batch, texts = batch_of(case_folder, repo_root, dict(findings=" ".join(given)))
    assert [step.text for step in batch["p0"].steps] == given
    assert [step.regions for step in batch["p0"].steps] == [(17,), (12,)]
    assert batch["p0"].impression == "" and batch["p0"].findings == " ".join(given)
    assert set(texts) == {*given, "Liver cyst.", "A cyst in the liver."}


def test_impression_is_split_into_steps(case_folder, repo_root):
    batch, _ = batch_of(case_folder, repo_root, dict(impression="Cyst of the liver. No effusion."))
    assert [step.text for step in batch["p0"].steps] == ["Cyst of the liver.", "No effusion."]
    assert batch["p0"].impression == "Cyst of the liver. No effusion."


def test_case_without_text_is_measured(case_folder, repo_root):
    batch, texts = batch_of(case_folder, repo_root, {})
    assert any("HU" in step.text for step in batch["p0"].steps) and batch["p0"].impression in texts
