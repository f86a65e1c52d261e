"""Check a challenge submission.

python tools/analysis_tools/check_submission.py vlm3d-classification submission.json --cases ground_truth.csv
python tools/analysis_tools/check_submission.py vlm3d-reports reports.json --cases cases.txt
python tools/analysis_tools/check_submission.py rex masks/ --dataset dataset.json --split test
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ctvlm.engine import run_tool

if TYPE_CHECKING:
    from ctvlm.evaluation.submissions import Problem


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Check a challenge submission. The exit code is 1 if it has errors.")
    parser.add_argument("kind", choices=["vlm3d-classification", "vlm3d-reports", "rex"])
    parser.add_argument("submission", help=".json file, or folder of ReX masks")
    parser.add_argument("--cases", help="expected cases: .csv with AccessionNo, .json, or text with one name per line")
    parser.add_argument("--dataset", help="dataset.json of ReXGroundingCT")
    parser.add_argument("--split", default="test", help="split of dataset.json (default: test)")
    parser.add_argument("--strict", action="store_true", help="count warnings as errors")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    args = parser.parse_args()
    if args.kind == "rex" and not args.dataset:
        parser.error("rex needs --dataset dataset.json")
    return args


def find_problems(args: argparse.Namespace) -> list[Problem]:
    """Problems of the submission."""
    from ctvlm.evaluation.submissions import check_classification, check_reports, check_rex, read_cases, read_submission

    if args.kind == "rex":
        return check_rex(args.submission, args.dataset, args.split)
    check = check_classification if args.kind == "vlm3d-classification" else check_reports
    return check(read_submission(args.submission), read_cases(args.cases) if args.cases else None)


def main() -> None:
    """Check the submission and print its problems."""
    args = parse_args()
    problems = find_problems(args)
    for problem in problems:
        print(problem)
    errors = sum(problem.fatal or args.strict for problem in problems)
    unchecked = "" if args.cases or args.kind == "rex" else " (names not checked, because --cases is not given)"
    print(f"{args.submission}: {errors} errors, {len(problems) - errors} warnings{unchecked}")
    if errors:
        raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(run_tool(main))
