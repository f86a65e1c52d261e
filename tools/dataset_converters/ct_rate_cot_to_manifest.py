"""Convert chain-of-thought text on CT-RATE to a case manifest.

Supports plain records ``{"volumename", "question", "answer"}``, CT-RATE-Thinking (JSON Lines) and CORTEX
(``data/{closedended,openended,report}.json``); the format is detected from the keys. All records of a volume become
the steps of one case, each with its question, and in CORTEX with its stage (observation, reason or answer). Text
without explicit steps is split into sentences.

    python tools/dataset_converters/ct_rate_cot_to_manifest.py CT-RATE CT-RATE/cot.jsonl --cot THINKING/train.jsonl
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ctvlm.engine.cli.converter_arguments import add_common_arguments, add_ct_rate_arguments


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct_rate", type=Path, metavar="ROOT", help="root of CT-RATE, which contains dataset/")
    add_common_arguments(parser)
    add_ct_rate_arguments(parser)
    parser.add_argument("--cot", type=Path, nargs="+", required=True, help=".json or .jsonl files, or folders of them")
    parser.add_argument("--max-steps", type=int, help="maximum number of steps per case; default: all")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write the manifest; returns the exit code."""
    args = parse_args(argv)
    from ctvlm.datasets.conversion import ct_rate_cot_cases, open_ct_rate, prepare_ct_rate, run_converter

    return run_converter(lambda: ct_rate_cot_cases(open_ct_rate(args), args.cot, args.max_steps), args, prepare_ct_rate)


if __name__ == "__main__":
    sys.exit(main())
