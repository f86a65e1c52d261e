"""Profiles of training steps, and their comparison with another commit."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest

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
