import io

import pytest
from rich.console import Console

from ctvlm.engine.cli.generated_examples import MAX_CHARACTERS, example_texts, examples_table
from ctvlm.engine.cli.metrics_table import MetricRow
from ctvlm.engine.cli.results_tables import nan_reason, print_results

FINDINGS = ("Emphysema", "Peribronchial thickening", "Interlobular septal thickening")
SCORES = ("auroc", "ap", "f1", "f1_weighted", "accuracy", "balanced_accuracy", "precision", "recall")
NAN = float("nan")


def printed(metrics, width=160):
    console = Console(file=io.StringIO(), width=width)
    print_results(console, metrics, "title")
    return console.file.getvalue().splitlines()


def cells(line):
    return [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")]


def header(lines, name):
    return next(cells(line) for line in lines if line.startswith("┃") and cells(line)[0] == name)


def by_finding():
    metrics = {f"c/{score}": 0.5 for score in SCORES}
    for name in FINDINGS:
        metrics |= {f"c/{name}/{score}": 0.25 for score in SCORES} | {f"c/{name}/num_cases": 9}
    metrics["c/Emphysema/auroc"], metrics["c/Emphysema/auroc_reason"] = NAN, "no positives"
    return metrics | {"c/num_cases": 12, "c/protocol": "ctvlm"}


def test_means_come_first_and_each_finding_has_one_row():
    lines = printed(by_finding())
    rows = [cells(line) for line in lines if line.startswith("│")]
    assert [row[0] for row in rows] == [*(f"c/{score}" for score in SCORES), *FINDINGS]
    assert header(lines, "metric") == ["metric", "value", "n"]
    assert header(lines, "finding") == ["finding", "n", *SCORES, "nan because"]
    assert rows[-3] == ["Emphysema", "9", "nan", *["0.250"] * (len(SCORES) - 1), "no positives"]
    assert rows[-1] == ["Interlobular septal thickening", "9", *["0.250"] * len(SCORES), ""]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_scores_that_do_not_fit_are_named(width):
    lines = printed(by_finding(), width)
    columns = header(lines, "finding")
    assert columns[2] == "auroc" and "recall" not in columns and columns[-1] == "nan because"
    rest = [score for score in SCORES if score not in columns]
    assert f"not shown, in the CSV file: {', '.join(rest)}" in " ".join(line.strip() for line in lines)
    assert all(len(line.rstrip()) <= width for line in lines)
    assert sum(line.startswith("│ Interlobular septal thickening ") for line in lines) == 1


def test_score_of_a_constant_report_is_a_baseline():
    metrics = {"report/BLEU-4": 0.26, "report/BLEU-4_chance": 0.21, "report/baseline": "constant report"}
    lines = printed({**metrics, "r/R@1": 0.5, "r/R@1_chance": 0.01})
    assert header(lines, "metric") == ["metric", "value", "chance", "baseline"]
    rows = [cells(line) for line in lines if line.startswith("│")]
    assert rows == [["report/BLEU-4", "0.26", "", "0.21"], ["r/R@1", "0.5", "0.01", ""]]
    assert header(printed(metrics), "metric") == ["metric", "value", "baseline"]


def test_interval_protocol_and_threshold_are_shown_if_a_metric_has_them():
    metrics = {"a/f1": 0.5, "a/f1_low": 0.25, "a/f1_high": 0.75, "a/num_cases": 8}
    assert header(printed(metrics), "metric") == ["metric", "value", "interval", "n"]
    lines = printed({**metrics, "a/protocol": "ct_clip", "a/threshold_rule": "> 0.5"}, width=80)
    assert cells(next(line for line in lines if line.startswith("│"))) == ["a/f1", "0.5", "0.25 to 0.75", "8"]
    assert " ".join(lines[lines.index(next(line for line in lines if line.startswith("└"))) + 1 :]).split() == (
        "a: protocol ct_clip, threshold > 0.5".split()
    )


@pytest.mark.parametrize(
    ("row", "metrics", "reason"),
    [
        (MetricRow("r/t2i_R@10", NAN, n=4), {}, "fewer than 11 cases"),
        (MetricRow("r/t2i_R@10", NAN, n=0), {}, "no cases"),
        (MetricRow("r/spread", NAN, n=1), {}, "fewer than 2 cases"),
        (MetricRow("c/auroc", NAN, n=9), {"c/findings_scored": 0}, "no finding has positives and negatives"),
        (MetricRow("c/A/f1", NAN, n=9), {"c/A/f1_reason": "no negatives"}, "no negatives"),
        (MetricRow("c/auroc", NAN, n=9), {}, ""),
        (MetricRow("c/auroc", 0.5, n=1), {}, ""),
    ],
)
def test_reason_of_nan(row, metrics, reason):
    assert nan_reason(row, metrics) == reason


def test_reason_is_shown_next_to_a_mean():
    lines = printed({"r/R@5": NAN, "r/num_cases": 4}, width=80)
    assert header(lines, "metric") == ["metric", "value", "n", "nan because"]
    assert cells(next(line for line in lines if line.startswith("│"))) == ["r/R@5", "nan", "4", "fewer than 6 cases"]


def test_examples_show_the_generated_text_next_to_the_reference():
    sample = {
        "case_id": "case [7]",
        "findings": "Clear lungs.",
        "impression": "Normal.",
        "pred_report": "Nodule. " * 99,
    }
    assert example_texts({"case_id": "x"}) is None
    examples = [example_texts(sample), ("empty", "reference", " ")]
    console = Console(file=io.StringIO(), width=80)
    console.print(examples_table(examples))
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert lines[1:4] == ["case       case [7]", "reference  Clear lungs. Normal.", lines[3]]
    assert lines[3].startswith("generated  Nodule. Nodule.") and lines[-1] == "generated  (empty)"
    assert sum(line.count("Nodule") for line in lines) == MAX_CHARACTERS // len("Nodule. ")


def test_stages_have_their_own_table():
    metrics = {
        "s/auc": 0.5,
        "s/num_steps": 9,
        "s/observation/auc": 0.75,
        "s/observation/num_steps": 4,
        "s/cyst/auc": 0.25,
    }
    lines = printed(metrics)
    assert header(lines, "stage") == ["stage", "n", "auc"] and header(lines, "finding") == ["finding", "n", "auc"]
    rows = [cells(line) for line in lines if line.startswith("│")]
    assert rows == [["s/auc", "0.5", "9"], ["observation", "4", "0.750"], ["cyst", "9", "0.250"]]
