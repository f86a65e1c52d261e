"""Compare models on the same cases in one table.

python tools/analysis_tools/compare_models.py vit3d_phantom epoch_8.pth --data manifest.jsonl --protocols ct_clip
python tools/analysis_tools/compare_models.py vit3d_phantom epoch_8.pth --data configs/vit3d_cot_contrastive_bare.py
python tools/analysis_tools/compare_models.py first.pt second.pt --protocols ctvlm radfinder

MODEL is a checkpoint, a released folder, the name of a model of the package, a config (its weights: --checkpoint), or a
dump of predictions (tools/test.py --out). Differences are to the first model. The predictions of each model and its
cost are written to DIR/predictions when it has finished: to continue an interrupted comparison, or to add a model, pass
these files in place of their models.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctvlm.engine import quiet_warnings, run_tool
from ctvlm.utils import CTVLMError

if TYPE_CHECKING:
    from ctvlm.apis.case_predictions import EvaluationData


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Compare models on the same cases in one table.")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="models and dumps; the first is the reference")
    parser.add_argument(
        "--checkpoint", nargs="+", default=[], help="weights of the configs among MODEL, in their order"
    )
    parser.add_argument("--data", help="case manifest (.jsonl), or a config whose test data are used")
    parser.add_argument("--split", default="test", help="split of the manifest, or 'all' (default: test)")
    parser.add_argument(
        "--allow-outside", action="store_true", help="trust the manifest: accept files outside its folder"
    )
    parser.add_argument(
        "--measure-text", action="store_true", help="write measured text for cases of the manifest without text"
    )
    parser.add_argument("--protocols", nargs="+", default=["ctvlm"], metavar="NAME", help="default: ctvlm")
    parser.add_argument(
        "--bootstrap", type=int, default=1000, metavar="N", help="resamples of patients (default: 1000)"
    )
    parser.add_argument("--device", help="default: a GPU if there is one")
    parser.add_argument("--out", default="work_dirs/comparison", metavar="DIR", help="default: work_dirs/comparison")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    args = parser.parse_args()
    if args.bootstrap < 0:
        parser.error(f"--bootstrap: found {args.bootstrap}; expected 0 or more")
    if len(set(args.models)) < len(args.models):
        parser.error("found a MODEL twice; expected different models")
    return args


def row_names(models: list[str]) -> list[str]:
    """Short names of the rows: without folder and suffix if these names differ."""
    short = [Path(model).name if Path(model).is_dir() else Path(model).stem for model in models]
    return short if len(set(short)) == len(short) else models


def file_name(name: str) -> str:
    """Name of a file for a row; the names of rows differ in their folders too."""
    return "_".join(part for part in Path(name).parts if part not in ("/", ".", ".."))


def evaluation_data(args: argparse.Namespace) -> EvaluationData:
    """The cases of --data."""
    from ctvlm.apis.case_predictions import EvaluationData
    from ctvlm.engine import load_config

    if args.data.lower().endswith(".jsonl"):
        split = None if args.split == "all" else args.split
        return EvaluationData.of_manifest(args.data, split, args.allow_outside, args.measure_text)
    return EvaluationData.of_config(load_config(args.data))


def run_model(model: str, checkpoint: str | None, data: EvaluationData, args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of ``save_dump``: predictions of a model, and their cost."""
    import itertools
    from dataclasses import asdict

    import torch

    from ctvlm.apis import init_model
    from ctvlm.apis.case_predictions import embedding_call, fit_missing_tokenizer, predict_cases
    from ctvlm.engine.cli.dump_metrics import default_metrics
    from ctvlm.experiments.comparison.cost import inference_cost

    torch.manual_seed(0)  # a config without --checkpoint has the same random weights in each row and run
    built: Any = init_model(model, checkpoint, args.device)

    def metrics_of(names: list[str] | None) -> list[Any]:
        return default_metrics(names, protocols=args.protocols)

    prompts = [text for metric in metrics_of(None) if hasattr(metric, "prompts") for text in metric.prompts()]
    fit_missing_tokenizer(built, lambda: [*data.texts(), *prompts])
    batches = iter(data.batches(built))
    first = next(batches)
    dump = predict_cases(built, itertools.chain([first], batches), metrics_of)
    embed, shape = embedding_call(built, first)
    cost = inference_cost(embed, built, shape, next(built.parameters()).device)
    return dict(dump, cost=asdict(cost))


def main() -> None:
    """Predict, score, print and write the table."""
    args = parse_args()
    from ctvlm.apis.init_model import is_config
    from ctvlm.engine.cli.console import stdout_console
    from ctvlm.engine.cli.dump_metrics import check_protocols
    from ctvlm.evaluation import load_dump, save_dump
    from ctvlm.evaluation.dump import is_dump
    from ctvlm.evaluation.functional.published import published_figures
    from ctvlm.experiments.comparison.files import write_comparison
    from ctvlm.experiments.comparison.same_cases import check_same_cases
    from ctvlm.experiments.comparison.scores import compare_models
    from ctvlm.experiments.comparison.table import rich_table
    from ctvlm.utils import check_out_folder

    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # the profiler prints its start and end
    quiet_warnings()
    check_protocols(args.protocols)
    check_out_folder("--out", args.out)
    # custom_imports of a config may name modules in projects/, which are not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    read = [is_dump(model) for model in args.models]
    configs = [model for model, dump in zip(args.models, read) if not dump and is_config(model)]
    if args.checkpoint and len(args.checkpoint) != len(configs):
        raise CTVLMError(
            f"--checkpoint: found {len(args.checkpoint)}; expected {len(configs)}, one for each config among MODEL"
        )
    if all(read) and args.data:
        raise CTVLMError(f"--data: found {args.data} and only dumps, which contain their cases. Remove --data")
    if not all(read) and not args.data:
        model = args.models[read.index(False)]
        if model.lower().endswith(".pt"):
            load_dump(model)  # states why it is no dump
        raise CTVLMError(f"--data: found none; expected a manifest or a config to run the model {model} on")
    checkpoints = dict(zip(configs, args.checkpoint))
    data = evaluation_data(args) if args.data else None
    dumps: dict[str, dict[str, Any]] = {}
    for name, model, dump in zip(row_names(args.models), args.models, read, strict=True):
        if dump or data is None:
            dumps[name] = load_dump(model)
        else:
            path = Path(args.out) / "predictions" / f"{file_name(name)}.pt"
            save_dump(path, **run_model(model, checkpoints.get(model), data, args))
            dumps[name] = load_dump(path)
    check_same_cases(dumps)
    models = compare_models(dumps, args.protocols, args.bootstrap)
    cases = next(iter(dumps.values()))["cases"]
    title = f"Comparison on {len(cases)} cases" + (f" of {args.data}" if args.data else "")
    stdout_console().print(rich_table(models, title))
    origin = dict(data=args.data, protocols=args.protocols, bootstrap=args.bootstrap, cases=len(cases))
    for path in write_comparison(args.out, models, title, published_figures(), **origin):
        print(f"written: {path}")


if __name__ == "__main__":
    sys.exit(run_tool(main))
