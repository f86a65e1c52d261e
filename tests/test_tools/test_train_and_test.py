from __future__ import annotations

import json

import pytest
import torch

import ctvlm

TOY = "tests/test_engine/toy_config.py"


def test_training_and_testing_give_equal_metrics(tool, tmp_path):
    trained = tool("train.py", TOY, "--work-dir", tmp_path / "run", "--seed", 3)
    assert (trained.code, trained.err) == (0, "")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    checkpoint = tmp_path / "run" / "epoch_4.pth"
    assert torch.load(checkpoint, weights_only=True)["meta"]["seed"] == 3

    tested = tool("test.py", TOY, checkpoint, "--work-dir", tmp_path / "test", "--out", tmp_path / "out.json")
    assert tested.code == 0
    assert json.loads((tmp_path / "out.json").read_text())["metrics"] == results["metrics"]
    assert "toy/error" in tested.out and "out.json" in tested.out
    # The work folder also contains the test results; the results of training are not overwritten.
    results_file = json.loads((tmp_path / "test" / "test_results.json").read_text())
    assert results_file.pop("ctvlm")["version"] == ctvlm.__version__
    assert results_file == {"checkpoint": str(checkpoint), "metrics": results["metrics"], "n": {"toy/error": 12}}
    assert "toy/error" in (tmp_path / "test" / "test_results.csv").read_text()
    assert not (tmp_path / "test" / "results.json").exists()


def test_flags(tool, tmp_path):
    options = ["train_cfg.max_epochs=1", "train_dataloader.batch_size=4", "default_hooks.checkpoint.save_best=None"]
    flags = ["--amp", "--no-validate", "--auto-scale-lr", "--cfg-options", *options]
    trained = tool("train.py", TOY, "--work-dir", tmp_path, *flags)
    assert trained.code == 0
    assert "validation" not in trained.out and not (tmp_path / "results.json").exists()
    cfg = (tmp_path / "toy_config.py").read_text()
    assert "BFloat16OptimWrapper" in cfg and "max_epochs=1" in cfg
    assert torch.load(tmp_path / "epoch_1.pth", weights_only=True)["optimizer"]["param_groups"][0]["initial_lr"] == 5e-3


def test_resume(tool, tmp_path):
    first = tool("train.py", TOY, "--work-dir", tmp_path, "--resume", "--cfg-options", "train_cfg.max_epochs=2")
    assert str(tmp_path) in first.out and "resumed" not in first.out
    resumed = tool("train.py", TOY, "--work-dir", tmp_path, "--resume")
    assert "epoch 2, step 6" in resumed.out
    from_path = tool("train.py", TOY, "--work-dir", tmp_path / "other", "--resume", tmp_path / "epoch_3.pth")
    assert "epoch 3, step 9" in from_path.out
    assert (tmp_path / "other" / "results.json").read_text() == (tmp_path / "results.json").read_text()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere.py"], "nowhere.py"),
        (
            [TOY, "--cfg-options", "model.type=ToyModle"],
            "ToyModel",
        ),
        (
            [TOY, "--cfg-options", "train_dataloader.dataset.type=ToyModel"],
            "'ToyModel'",
        ),
        ([TOY, "--cfg-options", "default_hooks.x.type=NoHook"], "'NoHook'"),
        ([TOY, "--cfg-options", "model.widht=3"], "'widht'"),
        ([TOY, "--cfg-options", "modle.width=3"], "'model'"),
        ([TOY, "--cfg-options", "model.width"], "'model.width'"),
        ([TOY, "--resume", "nowhere.pth"], "nowhere.pth"),
        ([TOY, "--launcher", "pytorch"], "RANK"),
        ([TOY, "--cfg-options", "train_dataloader.dataset.fail_with=case 7 is broken"], "data set: case 7 is broken"),
        (
            [TOY, "--cfg-options", "train_dataloader.dataset.fail_with=case 7", "train_dataloader.num_workers=1"],
            "data set: case 7\n",
        ),
    ],
)
def test_errors_are_reported_in_one_message_and_leave_no_files(tool, tmp_path, args, message, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    outcome = tool("train.py", *args, "--work-dir", tmp_path / "run")
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("error:") == 1
    assert "Traceback" not in outcome.out + outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["{tmp}/nowhere.pth"], "nowhere.pth"),
        (["{tmp}/broken.pth"], "broken.pth"),
        (["{tmp}/other.pth"], "other.pth"),
        (["{tmp}/other.pth", "--out", "x.pkl"], "x.pkl"),
        (["{tmp}/other.pth", "--bootstrap", "0"], "--bootstrap is 0"),
        (["{tmp}/other.pth", "--cfg-options", "test_dataloader=None"], "test_dataloader"),
    ],
)
def test_errors_of_the_test_tool(tool, tmp_path, args, message):
    (tmp_path / "broken.pth").write_bytes(b"PK")
    torch.save({"state_dict": {"x": torch.zeros(1)}}, tmp_path / "other.pth")
    before = sorted(tmp_path.iterdir())
    outcome = tool("test.py", TOY, *(arg.format(tmp=tmp_path) for arg in args), "--work-dir", tmp_path / "run")
    assert outcome.code == 2
    assert message in outcome.err and outcome.err.count("error:") == 1 and "Traceback" not in outcome.err
    assert sorted(tmp_path.iterdir()) == before


def test_debug_shows_the_traceback(tool, monkeypatch):
    monkeypatch.setenv("CTVLM_DEBUG", "0")  # restored afterwards
    with pytest.raises(Exception, match=r"nowhere\.py"):
        tool("train.py", "nowhere.py", "--debug")
