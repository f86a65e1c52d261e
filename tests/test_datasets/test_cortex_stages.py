"""Stages of CORTEX's chains of thought: converter, manifest, and the steps of a case."""

from __future__ import annotations

import json

import pytest

from ctvlm.anatomy import mention_lexicon
from ctvlm.datasets import ManifestCT
from ctvlm.datasets.conversion.ct_rate_cot import read_record, record_steps
from ctvlm.datasets.conversion.text import number_steps
from ctvlm.utils import BadDataError
from tests.test_datasets.converter_tools import read_manifest, small_ct_rate, tool

CORTEX = {
    "closedended": dict(
        question="Is there a nodule in the right upper lobe?",
        output="<task>Look for nodules.</task><observation>A round opacity lies in the right upper lobe. "
        "The left lung is clear.</observation><reason>A round opacity is a nodule.</reason><answer>Yes</answer>",
    ),
    "openended": dict(
        conversations=[
            {"from": "human", "value": "<image>\nHow is the liver?"},
            {"from": "gpt", "value": "<observation>The liver is dark.<REASON>Fat is dark.<answer>Fatty liver is seen."},
        ]
    ),
    "report": dict(
        question="Write the report.",
        output="<observation>The heart is large.</observation><answer>Findings: The heart is large. Impression: "
        "Cardiomegaly.</answer>",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Manifest of generated files in CORTEX's layout."""
    folder = tmp_path_factory.mktemp("cortex")
    small_ct_rate(folder / "ct")
    (folder / "CORTEX" / "data").mkdir(parents=True)
    for name, record in CORTEX.items():
        content = [{"volume": "train_1_a_1", **record}]
        (folder / "CORTEX" / "data" / f"{name}.json").write_text(json.dumps(content))
    out = folder / "ct" / "m.jsonl"
    convert = tool("ct_rate_cot_to_manifest")
    assert convert(folder / "ct", out, "--cot", folder / "CORTEX", "--dev-fraction", 0) == 0
    return out


def test_steps_have_the_stage_of_their_tag(manifest):
    (case,) = read_manifest(manifest)
    assert [(step["stage"], step["text"]) for step in case["cot"]] == [
        ("observation", "A round opacity lies in the right upper lobe."),
        ("observation", "The left lung is clear."),
        ("reason", "A round opacity is a nodule."),
        ("answer", "Is there a nodule in the right upper lobe? Yes"),
        ("observation", "The liver is dark."),
        ("reason", "Fat is dark."),
        ("answer", "Fatty liver is seen."),
        ("observation", "The heart is large."),
    ]


def test_steps_of_a_case_keep_their_stage(manifest):
    pipeline = [dict(type="LoadCT"), dict(type="PackCTInputs")]
    steps = ManifestCT(str(manifest), pipeline=pipeline)[0]["data_samples"].steps
    (case,) = read_manifest(manifest)
    assert [(step.text, step.stage) for step in steps] == [(step["text"], step["stage"]) for step in case["cot"]]


@pytest.mark.parametrize(
    ("record", "stages"),
    [
        (dict(answer="The heart is large. It is wide."), [None, None]),
        (dict(thinking="The heart is large.", answer="Cardiomegaly is seen here."), [None, None]),
        (dict(answer="<think>The heart is large.</think><answer>Cardiomegaly is seen here."), [None, "answer"]),
        (dict(answer="<reasoning>The heart is large.</reasoning><summary>Much.</summary>"), ["reason"]),
        (dict(answer="<answer>Findings: The heart is large. Impression: Cardiomegaly."), ["answer"]),
    ],
)
def test_only_tags_with_a_stage_give_one(record, stages):
    steps = record_steps(read_record({"volumename": "train_1_a_1", "question": "", **record}), mention_lexicon())
    assert [step.get("stage") for step in steps] == stages


def test_a_text_that_the_answer_repeats_is_one_step():
    trace = "<observation>The heart is large.</observation><answer>The heart is large. It is wide."
    steps = record_steps(read_record({"volumename": "train_1_a_1", "answer": trace}), mention_lexicon())
    assert [(step["stage"], step["text"]) for step in number_steps(steps)] == [
        ("observation", "The heart is large."),
        ("answer", "It is wide."),
    ]


def test_an_unknown_stage_from_a_transform_is_refused(case_folder):
    def set_stage(results):
        return {**results, "cot": [{**step, "stage": "think"} for step in results["cot"]]}

    pipeline = [dict(type="LoadCT"), set_stage, dict(type="PackCTInputs")]
    dataset = ManifestCT(str(case_folder / "cases.jsonl"), pipeline=pipeline)
    with pytest.raises(BadDataError, match="case p1: .*stage 'think'; expected one of observation, reason, answer"):
        dataset[1]
