"""The configs of the package, which can be named without a path."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from pathlib import Path


@cache
def configs_folder() -> Path:
    """Folder of the configs: in the package, or beside it in a checkout whose file system has no links."""
    package = Path(__file__).resolve().parents[2]
    return next(path for path in (package / "configs", package.parent / "configs") if path.is_dir())


@cache
def installed_configs() -> dict[str, Path]:
    """Relative name without suffix, such as ``ablations/full``, and path of every config that is not only a base."""
    folder = configs_folder()
    names = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.py"))}
    return {name: path for name, path in names.items() if not name.startswith("_base_/")}


def find_config(name: str | Path) -> Path | None:
    """Path of an installed config; None if there is none, or more than one.

    Args:
        name: a relative path, with or without ``configs/`` and ``.py``, or the file name of a config in a subfolder.
    """
    key = _key(name)
    configs = installed_configs()
    if key in configs:
        return configs[key]
    same_stem = [path for path in configs.values() if path.stem == key]
    return same_stem[0] if len(same_stem) == 1 else None


def similar_configs(name: str | Path, count: int = 3) -> list[str]:
    """Names of installed configs that resemble ``name``, best first; the file name counts as well as the path."""
    configs = installed_configs()
    by_stem = {path.stem: known for known, path in configs.items()}
    matches = get_close_matches(_key(name), [*configs, *by_stem], n=count, cutoff=0.5)
    return list(dict.fromkeys(by_stem.get(match, match) for match in matches))


def config_title(path: Path) -> str:
    """First sentence of the comment at the top of a config."""
    lines = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
        if line.endswith((":", ".")):
            break
    return " ".join(lines).split(". ")[0].rstrip(".:")


def _key(name: str | Path) -> str:
    return Path(name).as_posix().removeprefix("./").removeprefix("configs/").removesuffix(".py")
