"""Errors of cases in data loaders: raised with the case, or replaced by other cases."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from ctvlm.engine import CTVLMRunner, user_message
from ctvlm.engine.cli.config_error import ConfigError
from ctvlm.utils import CaseError, DataWorkerError
from ctvlm.utils.bad_cases import BadCaseWarning, TooManyBadCasesError
from tests.test_engine.bad_data import BadData

MODES = pytest.mark.parametrize("workers", [0, 2])


@pytest.fixture
def config(toy_config):
    def make(bad, workers=0, folder="run", **options):
        cfg = toy_config(
            folder,
            train_dataloader__num_workers=workers,
            train_cfg__max_epochs=2,
        )
        bad = {str(number): how for number, how in bad.items()}
        cfg.train_dataloader.dataset = dict(type="BadData", bad=bad, **options)
        return cfg

    return make


def train(cfg) -> Exception:
    runner = CTVLMRunner.from_cfg(cfg)
    with pytest.raises(Exception) as info:
        runner.train()
    return info.value


@MODES
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("read", "case c7 (/data/c7.nii.gz): /data/c7.nii.gz: found a torn file; expected a CT. Copy it again."),
        ("os", "case c7 (/data/c7.nii.gz): No such file or directory: /data/c7.nii.gz"),
        ("plugin", "case c7 (/data/c7.nii.gz): /data/c7.nii.gz: found 3"),
        ("value", "case c7 (/data/c7.nii.gz): shape (3,), expected (4,)"),
    ],
)
def test_error_is_one_line_with_the_case(config, how, message, workers):
    error = train(config({7: how}, workers))
    assert type(error) is CaseError and str(error) == user_message(error) == message


@MODES
def test_fault_of_the_code_keeps_its_traceback_and_the_case(config, workers):
    error = train(config({7: "type"}, workers, bad_cases="skip"))
    assert user_message(error) is None
    assert str(error).rstrip().endswith("case c7 (/data/c7.nii.gz): TypeError: object of type 'int' has no len()")


def losses(cfg) -> list:
    hub = torch.load(Path(cfg.work_dir) / "epoch_2.pth", weights_only=True)["message_hub"]
    return hub["log_scalars"]["train/loss"]["values"]


def test_skipped_cases_are_replaced_alike_with_any_number_of_workers(config, recwarn):
    found = []
    for workers in (0, 2):
        cfg = config({3: "read", 7: "os"}, workers, f"run{workers}", bad_cases="skip")
        cfg.train_dataloader.sampler.shuffle = False
        cfg.model.update(dropout=0.0)
        runner = CTVLMRunner.from_cfg(cfg)
        runner.train()
        found.append(losses(cfg))
        assert sorted(runner.train_dataloader.dataset.bad_case_ids()) == ["c3", "c7"]
        assert runner.message_hub.get_info("bad_cases") == 2
        log = next(Path(cfg.work_dir).glob("*/*.log")).read_text()
        assert log.count("2 training cases cannot be read and were replaced by others: c3, c7") == 1
    assert found[0] == found[1]
    own = [str(w.message) for w in recwarn if w.category is BadCaseWarning]  # those of the main process
    assert len(own) == 2 and "case c3 is replaced by another (1 of 24, the limit is 12): " in own[0]
    assert "/data/c3.nii.gz: found a torn file" in own[0] and "/data/c7.nii.gz" in own[1]


def test_replacement_depends_on_the_index_only():
    def sums(order):
        data = BadData(bad={3: "read", 7: "os", 9: "read"}, bad_cases="skip")
        return {i: float(data[i]["data_samples"]) for i in order}

    with pytest.warns(BadCaseWarning):
        forward, backward = sums(range(24)), sums(reversed(range(24)))
    assert forward == backward and len(set(forward.values())) == 21


@MODES
def test_too_many_bad_cases_stop_the_training(config, workers):
    cfg = config(dict.fromkeys(range(0, 24, 2), "read"), workers, bad_cases="skip", max_bad_cases=0.1)
    error = train(cfg)
    assert type(error) is TooManyBadCasesError and "\n" not in str(error)
    # The error of the first batch is raised; another worker may have found three cases before.
    counts = "[34]" if workers else "3"
    assert re.match(rf"{counts} of 24 cases cannot be read; the limit is 2 \(max_bad_cases=0.1\)", str(error))
    assert "/data/c" in str(error)


def test_one_bad_case_is_always_allowed():
    with pytest.warns(BadCaseWarning):
        data = BadData(bad={3: "read"}, bad_cases="skip", max_bad_cases=0.001)
        assert len([data[i] for i in range(24)]) == 24
    with pytest.raises(TooManyBadCasesError, match="1 of 1 cases"):
        BadData(length=1, bad={0: "read"}, bad_cases="skip", max_bad_cases=1)[0]


@pytest.mark.parametrize("stage", ["val", "test"])
def test_evaluation_does_not_skip(config, stage):
    cfg = config({})
    cfg[f"{stage}_dataloader"].dataset = dict(type="BadData", bad_cases="skip")
    with pytest.raises(ConfigError, match=f"{stage}_dataloader.dataset.bad_cases: found 'skip'"):
        getattr(CTVLMRunner.from_cfg(cfg), stage)()
    with pytest.raises(ValueError, match="test_mode"):
        BadData(bad_cases="skip", test_mode=True)


@MODES
def test_error_in_validation_contains_the_case(config, workers):
    cfg = config({})
    cfg.val_dataloader.update(num_workers=workers, dataset=dict(type="BadData", bad={"7": "read"}))
    runner = CTVLMRunner.from_cfg(cfg)
    with pytest.raises(CaseError, match=r"^case c7 \(/data/c7.nii.gz\): "):
        runner.val()


def test_options_are_checked():
    with pytest.raises(ValueError, match="'ignore'"):
        BadData(bad_cases="ignore")
    with pytest.raises(ValueError, match="max_bad_cases"):
        BadData(max_bad_cases=0)


def test_killed_worker_names_the_case_and_the_cause(config):
    error = train(config({7: "kill"}, workers=2))
    assert type(error) is DataWorkerError
    assert "while it was loading case c7 (/data/c7.nii.gz)" in str(error) and "killed by signal: Killed" in str(error)
    assert "memory ran out: lower train_dataloader.num_workers (now 2)" in str(error) and "\n" not in str(error)


@pytest.fixture
def patient(monkeypatch):
    """A data loader waits for its batches as long as no worker loads case c7; its timeout counts from then on."""
    get = _MultiProcessingDataLoaderIter._try_get_data

    def wait(self, timeout):
        fetcher = self._dataset.dataset.__getitems__
        while not any(state.case.startswith("case c7 ") for state in fetcher.loading()):
            found, batch = get(self, 0.1)
            if found:
                return found, batch
        return get(self, timeout)

    monkeypatch.setattr(_MultiProcessingDataLoaderIter, "_try_get_data", wait)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("how", ["hang", "stop"])
def test_hanging_worker_names_the_case(config, how):
    cfg = config({7: how}, workers=2)
    cfg.train_dataloader.timeout = 3
    start = time.monotonic()
    error = train(cfg)
    assert type(error) is DataWorkerError and time.monotonic() - start < 300
    assert "train_dataloader: no batch within 3 s" in str(error)
    assert "has been loading case c7 (/data/c7.nii.gz) for" in str(error) and "train_dataloader.timeout" in str(error)


def test_timeout_is_on_by_default_and_only_with_workers(config):
    cfg = config({}, workers=2)
    assert CTVLMRunner.from_cfg(cfg).train_dataloader.timeout == 1800
    cfg.train_dataloader.update(num_workers=0, timeout=900)
    loader = CTVLMRunner.build_dataloader(cfg.train_dataloader)
    assert loader.timeout == 0 and len(list(loader)) == 3


def test_message_is_in_the_log(config):
    cfg = config({20: "read"})
    cfg.train_dataloader.sampler.shuffle = False
    train(cfg)
    log = next(Path(cfg.work_dir).glob("*/*.log")).read_text()
    assert "The run ended with an error: case c20 (/data/c20.nii.gz): /data/c20.nii.gz: found a torn file" in log
    assert "CTReadError: " in log
