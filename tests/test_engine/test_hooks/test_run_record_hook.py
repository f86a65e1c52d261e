"""Work folders and checkpoints say how they were computed."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from ctvlm.engine import CTVLMRunner, set_resume
from ctvlm.utils import provenance
from ctvlm.utils.code_version import code_version
from ctvlm.utils.provenance import known_records, run_record

SECRET = "hf_secret_token"


def records(folder) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*/run.json"))]


def test_each_start_is_recorded(toy_config, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    cfg = toy_config(train_cfg__max_epochs=1, randomness__seed=7)
    runner = CTVLMRunner.from_cfg(cfg)
    runner.train()
    cfg = toy_config(train_cfg__max_epochs=2, randomness__seed=7)
    set_resume(cfg, "auto")
    CTVLMRunner.from_cfg(cfg).train()

    first, second = sorted(records(cfg.work_dir), key=lambda record: record["iteration"])
    assert [first["iteration"], second["iteration"]] == [0, 3]
    assert [first["loaded"], second["loaded"]] == [None, "epoch_1.pth"]
    assert first["command"] == sys.orig_argv and first["seed"] == 7 and first["processes"] == 1
    assert first["ctvlm"] == code_version()
    assert first["versions"]["torch"] == torch.__version__
    for name in ("numpy", "mmengine", "transformers"):
        assert first["versions"][name] == metadata.version(name)
    assert first["config"]["optim_wrapper"]["optimizer"] == dict(type="AdamW", lr=1e-2)
    assert first["config"]["train_cfg"]["max_epochs"] == 1 and second["config"]["train_cfg"]["max_epochs"] == 2

    runs = torch.load(Path(cfg.work_dir) / "epoch_2.pth", weights_only=True)["meta"]["runs"]
    assert runs == [
        {key: value for key, value in r.items() if key not in ("config", "folder")} for r in (first, second)
    ]
    content = Path(cfg.work_dir, "epoch_2.pth").read_bytes()
    assert SECRET.encode() not in content and SECRET not in json.dumps([first, second])


def test_results_contain_the_code(toy_config):
    cfg = toy_config(train_cfg__max_epochs=1)
    runner = CTVLMRunner.from_cfg(cfg)
    runner.train()
    runner.test()
    for name in ("results.json", "test_results.json"):
        assert json.loads((Path(cfg.work_dir) / name).read_text())["ctvlm"] == code_version()


def test_hook_can_be_removed(toy_config):
    cfg = toy_config(train_cfg__max_epochs=1)
    cfg.default_hooks["run_record"] = None
    CTVLMRunner.from_cfg(cfg).train()
    assert not records(cfg.work_dir)
    assert "runs" not in torch.load(Path(cfg.work_dir) / "epoch_1.pth", weights_only=True)["meta"]


VALID = run_record(seed=0, processes=1, iteration=0, loaded=None)


@pytest.mark.parametrize(
    "change",
    [
        dict(seed="0"),
        dict(seed=True),
        dict(command=[["a"]]),
        dict(command=["a" * 20_000]),
        dict(command=["a"] * 2000),
        dict(versions={"torch": torch.ones(2)}),
        dict(loaded=1),
        dict(other=1),
    ],
)
def test_invalid_records_of_a_checkpoint_are_dropped(change):
    assert known_records([VALID, {**VALID, **change}, 3]) == [VALID]


@pytest.mark.parametrize("value", [None, "x", {"a": 1}, torch.ones(2), [[]]])
def test_invalid_lists_of_a_checkpoint_are_dropped(value):
    assert known_records(value) == []


def test_number_of_records_is_bounded(toy_config, monkeypatch):
    cfg = toy_config(train_cfg__max_epochs=1)
    runner = CTVLMRunner.from_cfg(cfg)
    (hook,) = [hook for hook in runner.hooks if type(hook).__name__ == "RunRecordHook"]
    hook.after_load_checkpoint(runner, dict(meta=dict(runs=[VALID] * 500)))
    runner.train()
    runs = torch.load(Path(cfg.work_dir) / "epoch_1.pth", weights_only=True)["meta"]["runs"]
    assert len(runs) == provenance.MAX_RECORDS and runs[-1]["seed"] == runner.seed
