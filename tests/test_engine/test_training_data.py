"""Checkpoints record the training data of their weights, including warm starts and resumed runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.dataset import ConcatDataset, RepeatDataset

from ctvlm.engine import CTVLMRunner
from ctvlm.phantom import PhantomCT
from ctvlm.registry import DATASETS, METRICS
from ctvlm.utils.training_data import (
    PHANTOMS_ONLY,
    any_real,
    checkpoint_records,
    data_record,
    dataset_records,
    only_phantoms,
)
from tests.test_engine.toy import ToyDataset, ToyMetric


@DATASETS.register_module(force=True)
class ToyPhantoms(ToyDataset):
    def data_records(self):
        return [data_record("ToyPhantoms", len(self), "train", "phantom", True, "toy")]


@DATASETS.register_module(force=True)
class ToyScans(ToyDataset):
    def data_records(self):
        return [data_record("ToyScans", len(self), "train", "given report", False, "toy")]


@METRICS.register_module(force=True)
class ToyDump(ToyMetric):
    """Receives the remark, as DumpPredictions does."""

    default_prefix = "dump"

    def set_remark(self, remark):
        self.remark = remark


def trained(make, folder: str, kind: str, epochs: int = 1, **overrides) -> str:
    """Train a short run on one data set; returns the checkpoint."""
    cfg = make(folder, train_dataloader__dataset__type=kind, train_cfg__max_epochs=epochs, **overrides)
    CTVLMRunner.from_cfg(cfg).train()
    return str(Path(cfg.work_dir) / f"epoch_{epochs}.pth")


def records(checkpoint: str) -> list[dict]:
    return torch.load(checkpoint, weights_only=True)["meta"]["training_data"]


def test_warm_start_adds_a_record_and_resuming_does_not(toy_config):
    first = trained(toy_config, "first", "ToyPhantoms")
    (record,) = records(first)
    assert (record["dataset"], record["cases"], record["synthetic"]) == ("ToyPhantoms", 24, True)
    tuned = trained(toy_config, "tuned", "ToyScans", load_from=first)
    assert [r["dataset"] for r in records(tuned)] == ["ToyPhantoms", "ToyScans"]
    assert not only_phantoms(records(tuned))
    resumed = trained(toy_config, "tuned", "ToyScans", epochs=2, load_from=tuned, resume=True)
    assert records(resumed) == records(tuned)
    best = next(Path(resumed).parent.glob("best*.pth"))
    assert records(str(best)) == records(tuned)
    # After a partial load, the loaded records are kept.
    part = trained(toy_config, "part", "ToyScans", load_from=first, load_strict=False)
    assert [r["dataset"] for r in records(part)] == ["ToyPhantoms", "ToyScans"]


def test_checkpoint_without_records(toy_config):
    first = trained(toy_config, "first", "ToyPhantoms")
    content = torch.load(first, weights_only=True)
    del content["meta"]["training_data"]
    torch.save(content, first)
    assert [r["dataset"] for r in checkpoint_records(content)] == ["unknown"]
    tuned = records(trained(toy_config, "tuned", "ToyPhantoms", load_from=first))
    assert [r["dataset"] for r in tuned] == ["unknown", "ToyPhantoms"]
    assert not only_phantoms(tuned) and not only_phantoms([]) and not any_real(tuned)
    assert checkpoint_records({"state_dict": {}}) == checkpoint_records(content)


def test_data_set_without_records(toy_config):
    (record,) = records(trained(toy_config, "plain", "ToyDataset"))
    assert (record["dataset"], record["cases"], record["synthetic"]) == ("ToyDataset", 24, None)
    assert not only_phantoms([record]) and not any_real([record])


@pytest.mark.parametrize(
    ("trained_on", "tested_on", "warns"),
    [("ToyPhantoms", "ToyScans", True), ("ToyPhantoms", "ToyPhantoms", False), ("ToyScans", "ToyScans", False)],
)
def test_phantom_weights_on_real_data_give_a_warning(toy_config, capsys, trained_on, tested_on, warns):
    weights = trained(toy_config, "run", trained_on)
    capsys.readouterr()
    cfg = toy_config("test", load_from=weights, test_dataloader__dataset__type=tested_on)
    cfg.test_evaluator = [cfg.test_evaluator, dict(type="ToyDump")]
    runner = CTVLMRunner.from_cfg(cfg)
    runner.test()
    assert runner.test_loop.evaluator.metrics[1].remark == (PHANTOMS_ONLY if warns else "")
    assert capsys.readouterr().out.count(PHANTOMS_ONLY) == warns
    results = json.loads((Path(cfg.work_dir) / "test_results.json").read_text())
    assert results.get("remark", "") == (PHANTOMS_ONLY if warns else "")


def test_records_of_wrapped_data_sets():
    phantoms = PhantomCT(num_cases=3, split="train", num_workers=0, cache=False)
    (record,) = dataset_records(phantoms)
    assert (record["dataset"], record["cases"], record["split"], record["text"]) == ("PhantomCT", 3, "train", "phantom")
    assert record["synthetic"] is True and record["scheme"] == "thorax_abdomen_20"
    held_out = PhantomCT(2, split="val", num_workers=0, cache=False)
    both = ConcatDataset([phantoms, held_out], ignore_keys="split")
    assert dataset_records(RepeatDataset(phantoms, 2)) == [record]
    assert [(r["split"], r["cases"]) for r in dataset_records(both)] == [("train", 3), ("val", 2)]
    mixed = torch.utils.data.ConcatDataset([phantoms, ToyScans(4)])
    assert [r["synthetic"] for r in dataset_records(mixed)] == [True, False]
