"""Profiles of training steps, and their comparison with another commit."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest

from ctvlm.experiments.benchmark import ranks, step_process
from ctvlm.experiments.benchmark.baseline import checkout, compare_with_commit
from ctvlm.experiments.benchmark.batches import measure_batches
from ctvlm.experiments.benchmark.step_process import StepProcess
from ctvlm.experiments.benchmark.step_profile import by_phase
from ctvlm.utils import CTVLMError


def event(name, start, end):
    return SimpleNamespace(name=name, time_range=SimpleNamespace(start=start, end=end))


def test_operators_belong_to_the_innermost_phase():
    """The encoder runs inside of the forward pass; its time and operators are not those of the losses."""
    events = [
        event("aten::outside", 0, 1e6),
        event("ctvlm::losses", 2e6, 10e6),
        event("ctvlm::encoder", 3e6, 7e6),
        event("aten::copy_", 4e6, 5e6),
        event("aten::mm", 8e6, 9e6),
        event("aten::_local_scalar_dense", 9e6, 9.5e6),
    ]
    phases = by_phase(events, steps=2)
    assert phases["losses"] == dict(seconds=2, operators=1, copies=0, synchronisations=0.5)
    assert phases["encoder"] == dict(seconds=2, operators=0.5, copies=0.5, synchronisations=0)
    assert phases["backward"]["seconds"] == 0


def git(folder, *arguments):
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    done = subprocess.run(["git", "-C", str(folder), *author, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init")
    for text in ("old", "new"):
        (folder / "file").write_text(text)
        git(folder, "add", "file")
        git(folder, "commit", "-m", text)
    return folder


def test_checkout_is_removed_after_an_error(repository):
    with pytest.raises(KeyError), checkout(repository, "HEAD~1") as tree:
        assert (tree / "file").read_text() == "old"
        raise KeyError
    assert not tree.exists()
    assert len(git(repository, "worktree", "list").split("\n")) == 1
    assert (repository / "file").read_text() == "new"


@pytest.mark.parametrize("commit", ["missing", "--help"])
def test_unknown_commit_is_named(repository, commit):
    with pytest.raises(CTVLMError, match=commit), checkout(repository, commit):
        pass


def test_a_process_that_fails_gives_its_reason(tmp_path):
    with pytest.raises(CTVLMError, match=r"config not found: .*nothing\.py"):
        StepProcess(tmp_path / "nothing.py", "cpu", 2, tmp_path / "log")


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Replace the script of a step by other code, which knows its ``rank`` and the number of ``ranks``."""

    def replace(code):
        path = tmp_path / "step.py"
        known = "rank, ranks = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))"
        path.write_text(f"import json, os, sys, time\n{known}\n{code}\n")
        monkeypatch.setattr(step_process, "SCRIPT", path)

    return replace


def test_the_rank_that_failed_first_gives_the_reason(script, tmp_path):
    # The others would lose the connection later; here they wait until they are stopped.
    script("if rank < 2: sys.stdin.read(); sys.exit('connection closed by peer')\nsys.exit('out of memory')")
    with pytest.raises(CTVLMError, match="out of memory"):
        StepProcess(tmp_path / "config.py", "cpu", 2, tmp_path / "log", ranks=3)


def test_throughput_of_ranks(script, monkeypatch):
    """The slowest rank determines the step: 2 s on one rank, 3 s on two, 8 s on four."""
    monkeypatch.setattr(ranks, "available_cores", lambda: 2)
    monkeypatch.setattr(ranks, "config_path", lambda name: name)
    monkeypatch.delenv("OMP_NUM_THREADS")
    script(
        "print(json.dumps(dict(batch=6)), flush=True)\n"
        "for _ in sys.stdin: print(json.dumps(dict(step_s={1: 2, 2: 3, 4: 8}[ranks] / (ranks - rank))), flush=True)"
    )
    result = ranks.measure_ranks("config", [1, 2, 4], 2, 2)
    assert (result["cores"], result["threads"], result["batch_per_rank"]) == (2, 1, 6)
    rows = [tuple(row.values()) for row in result["ranks"]]
    assert rows == [(1, 2, 3, 1, False), (2, 3, 4, pytest.approx(4 / 3), False), (4, 8, 3, 1, True)]


@pytest.mark.slow
def test_two_ranks_train_the_step_of_one_process_with_their_cases(repo_root, tmp_path):
    """As the loss compares all cases of a batch, it is equal only if each rank has its own cases."""
    config = repo_root / "configs/vit3d_cot_contrastive.py"
    options = {
        "model.text_encoder.dropout": 0.0,
        "train_dataloader.dataset.pipeline": [dict(type="PackCTInputs")],
    }
    losses = []
    for count in (1, 2):
        sized = {**options, "train_dataloader.batch_size": 4 // count}
        log = tmp_path / f"{count}.log"
        environment = {"CUDA_VISIBLE_DEVICES": ""}
        with StepProcess(config, "cpu", 4 // count, log, None, sized, environment, count) as process:
            losses.append([process.step()["loss"] for _ in range(2)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][0] != pytest.approx(losses[0][1], rel=1e-4)


@pytest.mark.slow
def test_equal_commits_have_equal_losses(repo_root):
    result = compare_with_commit(str(repo_root / "configs/vit3d_cot_contrastive.py"), "HEAD", "cpu", 2, 1)
    assert result["loss_difference"] < 1e-4
    assert result["ratio"] > 0


@pytest.mark.slow
def test_memory_hardly_depends_on_the_batch_size(repo_root):
    """With equal chunks, 8 times the batch size needs at most 1.3 times the memory."""
    rows = measure_batches(str(repo_root / "configs/vit3d_cot_contrastive.py"), [16, 128], 8, "cpu", 4)
    assert rows[1]["ratio"] <= 1.3
