"""Figures of an evaluation from a dump."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ctvlm.engine.cli.result_plots import NO_FINDING, finding_groups, finding_probabilities, roc_curves, write_plots

NAMES = ("Cardiomegaly", "Lung nodule")


@pytest.fixture
def dump():
    """30 cases; the classifier is right for one finding and random for the other."""
    rng = np.random.default_rng(0)
    cases = []
    for i in range(30):
        labels = {NAMES[0]: int(i % 3 == 0), NAMES[1]: int(i % 5 == 0)}
        probabilities = {NAMES[0]: 0.1 + 0.8 * labels[NAMES[0]], NAMES[1]: float(rng.random())}
        volume = torch.from_numpy(rng.normal(size=8))
        cases.append(dict(case_id=str(i), labels=labels, pred_probabilities=probabilities, pred_volume=volume))
    return dict(cases=cases, prompts={}, scale=1.0)


def test_all_figures_are_written(dump, tmp_path):
    results = {"classification_ctvlm/auroc": 0.7, "classification_ctvlm/auroc_low": 0.6,
               "classification_ctvlm/auroc_high": 0.8}  # fmt: skip
    paths = write_plots(tmp_path / "new", dump, results)
    assert [path.name for path in paths] == ["metrics.png", "roc.png", "reliability.png", "embedding.png"]
    assert all(path.stat().st_size > 3000 for path in paths)


def test_curves_and_areas(dump):
    names, truth_NC, probability_NC = finding_probabilities(dump)
    assert names == list(NAMES) and truth_NC.sum(axis=0).tolist() == [10, 6]
    curves, areas = roc_curves(names, truth_NC, probability_NC)
    assert areas[NAMES[0]] == 1.0 and areas[NAMES[1]] < 0.8
    assert (curves[NAMES[0]][0][-1], curves[NAMES[0]][1][-1]) == (1.0, 1.0)


def test_finding_with_one_class_has_no_curve(dump):
    for case in dump["cases"]:
        case["labels"][NAMES[0]] = 0
    assert list(roc_curves(*finding_probabilities(dump))[0]) == [NAMES[1]]


def test_dump_without_labels_has_no_roc(dump, tmp_path):
    dump["cases"] = [dict(case_id=case["case_id"], pred_volume=case["pred_volume"]) for case in dump["cases"]]
    assert [path.name for path in write_plots(tmp_path, dump, {})] == ["embedding.png"]


def test_case_has_the_colour_of_its_rarest_finding():
    assert finding_groups([{"a": 1, "b": 1}, {"a": 1, "b": 0}, {"a": 0, "b": None}]) == ["b", "a", NO_FINDING]
