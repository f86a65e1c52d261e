"""Compare the training step of the working tree with that of another commit."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ctvlm.engine.cli.config import config_path
from ctvlm.experiments.benchmark.step_process import StepProcess
from ctvlm.utils import CTVLMError


def compare_with_commit(config: str, commit: str, device: str, cases: int, repeats: int) -> dict[str, Any]:
    """Train steps of both commits in turn.

    Returns:
        ``step_s`` and ``data_s`` of both sides (medians), the median ``ratio`` of working tree to commit, and the
        largest relative difference of the losses of equal steps.

    Raises:
        CTVLMError: the package is not in a git repository, there is no such commit, or a step fails.
    """
    path = config_path(config).resolve()
    root = Path(_git(Path(__file__).parent, "rev-parse", "--show-toplevel"))
    with checkout(root, commit) as other, ExitStack() as stack:
        sides = {}
        for name, tree in (("commit", other), ("working_tree", root)):
            # The commit may have its own version of the config.
            own = other / path.relative_to(root) if path.is_relative_to(root) and tree == other else path
            log = other.parent / f"{name}.log"
            sides[name] = stack.enter_context(StepProcess(own if own.is_file() else path, device, cases, log, tree))
            sides[name].step()  # warm-up
        rows = [{name: side.step() for name, side in sides.items()} for _ in range(repeats)]
    result: dict[str, Any] = {
        name: {key: statistics.median(row[name][key] for row in rows) for key in ("step_s", "data_s")} for name in sides
    }
    new, old = ([row[name] for row in rows] for name in ("working_tree", "commit"))
    result["ratio"] = statistics.median(a["step_s"] / b["step_s"] for a, b in zip(new, old))
    result["loss_difference"] = max(abs(a["loss"] - b["loss"]) / abs(b["loss"]) for a, b in zip(new, old))
    return result


@contextmanager
def checkout(root: Path, commit: str) -> Iterator[Path]:
    """Source tree of a commit in a temporary folder, which is removed afterwards."""
    _git(root, "rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}")
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "commit"
        _git(root, "worktree", "add", "--detach", str(tree), commit)
        try:
            yield tree
        finally:
            _git(root, "worktree", "remove", "--force", str(tree))


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise CTVLMError("--baseline needs git, which is not installed") from None
    if done.returncode:
        raise CTVLMError(f"--baseline: git {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout.strip()
