"""Runs that start within one second do not share their log folder."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from mmengine.config import Config

from ctvlm.engine import CTVLMRunner, run_stamp
from ctvlm.engine.run_log import read_run_log
from ctvlm.engine.run_stamp import reserve_stamp
from ctvlm.utils import WriteError
from tests.ranks import on_ranks

TIME = "20260102_030405"


@pytest.fixture
def one_second(monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda *_: TIME)
    monkeypatch.setattr(run_stamp, "_used", set())


def folders(work_dir) -> list[str]:
    return sorted(path.name for path in Path(work_dir).iterdir() if path.is_dir())


def test_runs_of_one_second_have_their_own_files(toy_config, one_second):
    for seed in (0, 1):
        cfg = toy_config(train_cfg__max_epochs=1 + seed, randomness__seed=seed)
        CTVLMRunner.from_cfg(cfg).train()
    work_dir = Path(cfg.work_dir)
    assert folders(work_dir) == [TIME, f"{TIME}_01"]
    for seed, name in enumerate(folders(work_dir)):
        assert json.loads((work_dir / name / "run.json").read_text())["seed"] == seed
        assert f"seed: {seed}" in (work_dir / name / f"{name}.log").read_text()
        assert len(read_run_log(work_dir / name / "vis_data" / "scalars.json").val) == 1 + seed
    assert read_run_log(work_dir).path.parents[1].name == f"{TIME}_01"  # the newest


def test_runs_of_one_process_in_two_folders_do_not_share_a_logger(toy_config, one_second):
    cfgs = [toy_config(name) for name in ("a", "b")]  # before the runs, because it clears the loggers
    runners = [CTVLMRunner.from_cfg(cfg) for cfg in cfgs]
    for runner, cfg in zip(runners, cfgs):
        assert Path(runner.logger.log_file).is_relative_to(cfg.work_dir)
    assert runners[0].message_hub is not runners[1].message_hub
    assert runners[0].visualizer is not runners[1].visualizer


def test_processes_that_start_together_get_different_names_in_order(tmp_path, monkeypatch):
    names = []
    for _ in range(12):
        monkeypatch.setattr(run_stamp, "_used", set())  # as in another process
        names.append(reserve_stamp(tmp_path, TIME))
    assert names == sorted(set(names)) == folders(tmp_path)
    assert names[-1] < "20260102_030406"


def two_runs(rank: int, world_size: int, cfg_text: str, folder: str) -> list[str]:
    time.strftime = lambda *_: TIME
    cfg = Config.fromstring(cfg_text, file_format=".py")
    cfg.work_dir = folder
    return [CTVLMRunner.from_cfg(cfg).log_dir for _ in range(2)]


def no_folder(rank: int, world_size: int, folder: str) -> str:
    with pytest.raises(WriteError) as info:
        reserve_stamp(folder, TIME)
    return str(info.value)


def test_ranks_of_a_run_share_one_folder(toy_config, tmp_path):
    expected = [str(tmp_path / TIME), str(tmp_path / f"{TIME}_01")]
    cfg = toy_config(launcher="pytorch")
    assert on_ranks(two_runs, 2, cfg.pretty_text, str(tmp_path)) == [expected, expected]


def test_a_folder_that_cannot_be_created_ends_all_ranks(tmp_path):
    first, second = on_ranks(no_folder, 2, str(tmp_path / "missing"))
    assert first.startswith(f"cannot write {tmp_path / 'missing' / TIME}: No such file")
    assert second == "another process cannot write its file"
