"""Find the last checkpoint of a run."""

from __future__ import annotations

import re
from pathlib import Path

from mmengine.config import Config

from ctvlm.engine.checkpoint.files import CheckpointError, read_checkpoint

POINTER = "last_checkpoint"
_NUMBERED = re.compile(r"(epoch|iter)_(\d+)\.pth")


def last_checkpoint_of(cfg: Config, work_dir: str | Path) -> str | None:
    """The last checkpoint of the run with this config and work folder; see ``last_checkpoint``."""
    work_dir = Path(work_dir)
    out_dir = ((cfg.get("default_hooks") or {}).get("checkpoint") or {}).get("out_dir")
    if not out_dir or Path(out_dir) == work_dir.absolute():
        return last_checkpoint(work_dir)
    # mmengine's CheckpointHook adds the name of the work folder.
    return last_checkpoint(Path(out_dir) / work_dir.absolute().name, work_dir)


def last_checkpoint(folder: Path, work_dir: Path | None = None) -> str | None:
    """The checkpoint that ``last_checkpoint`` names, else the one that was written last; None if there is none.

    Args:
        folder: contains the checkpoints.
        work_dir: contains the file ``last_checkpoint``; default: ``folder``.
    """
    pointer = (work_dir or folder) / POINTER
    if pointer.is_file():
        # Earlier versions wrote an absolute path, but the folder may have been moved.
        name = Path(pointer.read_text(errors="replace").strip()).name
        if name and (folder / name).is_file():
            return str(folder / name)
    newest: dict[str, tuple[int, Path]] = {}
    for path in folder.glob("*.pth"):
        if match := _NUMBERED.fullmatch(path.name):
            newest[match[1]] = max(newest.get(match[1], (-1, path)), (int(match[2]), path))
    paths = [path for _, path in newest.values()]
    return str(max(paths, key=_steps) if len(paths) > 1 else paths[0]) if paths else None


def _steps(path: Path) -> int:
    try:
        steps = read_checkpoint(path)["meta"].get("iter")
    except CheckpointError:
        return -1
    return steps if isinstance(steps, int) else -1
