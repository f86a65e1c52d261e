"""Linear probe: logistic regression on the frozen volume embeddings of a checkpoint.

python tools/analysis_tools/linear_probe.py CONFIG CHECKPOINT --bootstrap 1000

One logistic regression per finding on standardised embeddings. It is fitted on the training data with the validation
pipeline (no augmentation), its penalty and threshold are selected on the validation data, and it is scored on the test
data. There is no warning about weights trained on phantoms only, because the probe is fitted to the config's labels.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ctvlm.engine import ConfigError, ConfigOptions, quiet_warnings, run_tool
from ctvlm.engine.cli.console import stdout_console

if TYPE_CHECKING:
    import numpy as np
    from mmengine.config import Config
    from mmengine.model import BaseModel

    from ctvlm.evaluation.functional.linear_probe import Probe


SPLITS = ("train", "val", "test")


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Linear probe of a checkpoint's frozen volume embeddings.")
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument("--bootstrap", type=int, default=0, metavar="N", help="patient resamples for 95%% intervals")
    parser.add_argument("--work-dir", help="folder for the results (default: work_dirs/<config name>)")
    parser.add_argument("--device", help="default: an accelerator if available, else the CPU")
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE", help="override the config: a.b=1 c=[2,3]"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser.parse_args()


def embed(model: BaseModel, cfg: Config, split: str) -> tuple[np.ndarray, list[dict]]:
    """Embeddings (N, P), and id, patient and labels of each case of a split."""
    import numpy as np
    import torch
    from rich.progress import track

    from ctvlm.engine.loading.worker_errors import build_loader

    loader_cfg = cfg[f"{split}_dataloader"].copy()
    loader_cfg.update(sampler=dict(type="DefaultSampler", shuffle=False), drop_last=False)
    loader_cfg.dataset.pop("bad_cases", None)  # no case is replaced
    loader_cfg.dataset.pipeline = cfg.val_dataloader.dataset.pipeline
    rows, cases = [], []
    for batch in track(build_loader(loader_cfg), f"embedding {split}", transient=True):
        data = model.data_preprocessor(batch, False)
        with torch.no_grad():
            rows.append(model.context(data["inputs"]).volume_BP.float().cpu().numpy())
        cases += [
            {key: sample.get(key) for key in ("case_id", "patient_id", "labels")} for sample in data["data_samples"]
        ]
    return np.concatenate(rows), cases


def truth_of(cases: list[dict], name: str) -> np.ndarray:
    """Labels of a finding (N): 1, 0 or NaN."""
    import numpy as np

    values = [case["labels"].get(name) for case in cases]
    return np.array([np.nan if value is None else float(value) for value in values])


def main() -> None:
    """Embed the cases, fit and score the probes, print and write the results."""
    args = parse_args()
    import numpy as np
    from mmengine.registry import init_default_scope
    from rich.progress import track

    from ctvlm.apis import init_model
    from ctvlm.engine import load_config, set_work_dir
    from ctvlm.engine.cli.metrics_table import write_metrics
    from ctvlm.engine.cli.results_tables import print_results
    from ctvlm.evaluation import ClassificationMetric
    from ctvlm.evaluation.functional.linear_probe import fit_probe

    quiet_warnings()
    # custom_imports of a config may name modules in projects/, which are not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    cfg = load_config(args.config, args.cfg_options)
    for split in SPLITS:
        if cfg.get(f"{split}_dataloader") is None:
            raise ConfigError(
                f"{args.config}: found no {split}_dataloader; expected dataloaders for {', '.join(SPLITS)}"
            )
    set_work_dir(cfg, args.work_dir)
    init_default_scope(cfg.get("default_scope", "ctvlm"))
    model = init_model(cfg, args.checkpoint, args.device)
    embedded = {split: embed(model, cfg, split) for split in SPLITS}
    (train_NP, train), (dev_NP, dev), (test_NP, test) = (embedded[split] for split in SPLITS)
    probes: dict[str, Probe] = {}
    names = sorted({name for case in train for name in case["labels"]})
    for name in track(names, "fitting", transient=True):
        probe = fit_probe(train_NP, truth_of(train, name), dev_NP, truth_of(dev, name))
        if probe is not None:
            probes[name] = probe
    if not probes:
        raise ValueError(f"{args.config}: found no finding with both classes in the labels of the training data.")
    columns = {name: probe.probability(test_NP) for name, probe in probes.items()}
    metric = ClassificationMetric(
        "ctvlm",
        list(probes),
        thresholds={name: None if np.isnan(p.threshold) else p.threshold for name, p in probes.items()},
        per_finding=True,
        prefix="linear_probe",
        bootstrap=args.bootstrap,
    )
    for number, case in enumerate(test):
        case["pred_probabilities"] = {name: column[number] for name, column in columns.items()}
    metric.process(None, test)
    results = metric.evaluate(len(test))
    print_results(stdout_console(), results, f"Linear probe on {len(train)} cases, {len(probes)} findings")
    strengths = {name: probe.strength for name, probe in probes.items()}
    for suffix in ("json", "csv"):
        path = Path(cfg.work_dir) / f"linear_probe.{suffix}"
        write_metrics(path, results, config=args.config, checkpoint=args.checkpoint, strengths=strengths)
        print(f"written: {path}")
    if excluded := [name for name in names if name not in probes]:
        print(f"excluded, one class only in the training data: {', '.join(excluded)}")


if __name__ == "__main__":
    sys.exit(run_tool(main))
