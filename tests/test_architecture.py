"""Imports run downwards only: DESIGN in a test.

Floors, from the ground: registry; structures, utils, volume, anatomy, text; models, datasets, evaluation,
visualization; engine; apis; cli; tools and projects. Siblings of one floor do not import each other.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

FLOORS = [
    {"ctvlm.version", "ctvlm.lazy_adafactor"},
    {"ctvlm", "ctvlm.registry"},
    {"ctvlm.utils"},
    {"ctvlm.structures", "ctvlm.volume", "ctvlm.anatomy", "ctvlm.text"},
    {"ctvlm.models", "ctvlm.phantom", "ctvlm.datasets", "ctvlm.evaluation", "ctvlm.visualization"},
    {"ctvlm.engine"},
    {"ctvlm.experiments", "ctvlm.apis", "ctvlm.testing"},
    {"ctvlm.cli"},
    {"tools", "projects"},
]
# Inside a package, from the ground; the package's own __init__ stands above all of them.
INNER_FLOORS = {
    "ctvlm.models": [
        {"layers"},
        {"attention", "region_encoders"},
        {"backbones"},
        {"necks", "heads", "text_encoders", "data_preprocessors"},
        {"space"},
        {"losses"},
        {"objectives"},
        {"vlms", "literal"},
    ],
    "ctvlm.evaluation": [{"functional"}, {"dump", "submissions"}, {"metrics"}],
}
OURS = {"ctvlm", "tools", "projects", "tests"}


def imported_modules(source: str, module: str, is_package: bool) -> list[tuple[int, str]]:
    """(line, absolute name) of everything a module imports, at any depth of its code.

    ``from a import b`` counts as ``a.b``: whether b is a module or a name, its floor is the same.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".") if is_package else module.split(".")[:-1]
                parts = parts[: len(parts) - node.level + 1]
                base = ".".join([*parts, base] if base else parts)
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


def floor_of(name: str, floors: list[set[str]]) -> tuple[int, str] | None:
    """Floor and the unit on it that holds ``name``; the longest match wins."""
    matches = [
        (len(unit), floor, unit)
        for floor, units in enumerate(floors)
        for unit in units
        if name == unit or name.startswith(unit + ".")
    ]
    return max(matches)[1:] if matches else None


def objection(module: str, target: str) -> str | None:
    """Why ``module`` may not import ``target``; None if it may."""
    if target.split(".")[0] not in OURS:
        return None
    if target.split(".")[0] == "tests":
        return "tests are imported by tests only"
    source, goal = floor_of(module, FLOORS), floor_of(target, FLOORS)
    if source is None or goal is None:
        return "has no floor: add it to FLOORS"
    if goal[1] == "ctvlm" and target != "ctvlm.__version__":
        return f"{target} has no floor: add it to FLOORS"
    if source[1] != goal[1]:
        if goal[0] == source[0]:
            return "runs sideways"
        return "runs up" if goal[0] > source[0] else None

    package = source[1]
    if package == "projects" and module.split(".")[1] != target.split(".")[1]:
        return "runs sideways: projects do not know each other"
    if package not in INNER_FLOORS or module == package:
        return None
    floors = [{f"{package}.{unit}" for unit in units} for units in INNER_FLOORS[package]]
    source, goal = floor_of(module, floors), floor_of(target, floors)
    if goal is None:
        return "runs up to the package that holds it"
    if source is None:
        return f"{module} has no floor inside {package}: add it to INNER_FLOORS"
    if source[1] == goal[1] or goal[0] < source[0]:
        return None
    return "runs sideways" if goal[0] == source[0] else "runs up"


def violations(files: dict[str, str]) -> list[str]:
    """Every forbidden import among ``files`` (path relative to the repository, to source)."""
    found = []
    for path, source in sorted(files.items()):
        parts = Path(path).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        for line, target in imported_modules(source, module, is_package):
            reason = objection(module, target)
            if reason:
                found.append(f"{path}:{line} imports {target}: {reason}")
    return found


def test_imports_run_downwards(repo_root):
    paths = [path for folder in ("ctvlm", "tools", "projects") for path in (repo_root / folder).rglob("*.py")]
    paths = [path for path in paths if not {"configs", "tests", "conftest.py"} & set(path.relative_to(repo_root).parts)]
    assert len(paths) > 40
    files = {path.relative_to(repo_root).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    assert not violations(files), "\n".join(violations(files))


@pytest.mark.parametrize(
    ("path", "source", "reason"),
    [
        ("ctvlm/registry.py", "from ctvlm.models import X", "runs up"),
        ("ctvlm/volume/a.py", "from ctvlm.anatomy import RegionScheme", "runs sideways"),
        ("ctvlm/utils/b.py", "from ctvlm.volume import CTVolume", "runs up"),
        ("ctvlm/models/heads/a.py", "import ctvlm.phantom", "runs sideways"),
        ("ctvlm/datasets/a.py", "from ..engine import hooks", "runs up"),
        ("ctvlm/engine/hooks/a.py", "def f():\n    from ctvlm.apis import init_model", "runs up"),
        ("ctvlm/apis/a.py", "import projects.example_project", "runs up"),
        ("ctvlm/utils/a.py", "from tests.conftest import x", "tests are imported by tests only"),
        ("ctvlm/models/layers/a.py", "from ctvlm.models.attention import SliceAwareAttention", "runs up"),
        ("ctvlm/models/attention/a.py", "from ctvlm.models.region_encoders.b import c", "runs sideways"),
        ("ctvlm/models/heads/a.py", "from ..necks import RegionPooling", "runs sideways"),
        ("ctvlm/models/necks/a.py", "from ctvlm.models import MODELS", "runs up to the package that holds it"),
        ("ctvlm/models/helpers.py", "from ctvlm.models.layers import Mlp", "has no floor inside ctvlm.models"),
        ("ctvlm/evaluation/functional/a.py", "from ctvlm.evaluation.metrics import X", "runs up"),
        ("ctvlm/new_package/a.py", "from ctvlm.models import X", "runs up"),
        ("ctvlm/models/vlms/a.py", "from ctvlm.new_package import X", "has no floor"),
        ("projects/a/x.py", "from projects.b.y import z", "projects do not know each other"),
    ],
)
def test_checker_catches_a_planted_violation(path, source, reason):
    (found,) = violations({path: source})
    assert path in found and reason in found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("ctvlm/__init__.py", "from ctvlm.version import __version__"),
        ("ctvlm/models/__init__.py", "from ctvlm.models.vlms import CoTContrastiveVLM"),
        ("ctvlm/models/vlms/a.py", "from ctvlm.models.heads import X\nfrom ctvlm.structures import Y\nimport torch"),
        ("ctvlm/models/attention/a.py", "from .base import X\nfrom ctvlm.models.layers.mlp import Mlp"),
        ("ctvlm/engine/hooks/a.py", "from ctvlm.engine.cli.console import x\nfrom ctvlm.evaluation import y"),
        ("projects/a/x.py", "from ctvlm.models import X\nfrom .y import z\nfrom projects.a.y import z"),
        ("tools/train.py", "from ctvlm.engine import run_tool\nimport numpy.random"),
    ],
)
def test_checker_lets_downward_arrows_pass(path, source):
    assert violations({path: source}) == []


def test_constructors_of_models_have_at_most_twelve_arguments(repo_root):
    counts = {}
    for path in (repo_root / "ctvlm" / "models").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                counts[f"{path.name}:{node.lineno}"] = len(node.args.args) + len(node.args.kwonlyargs) - 1
    assert not {place: count for place, count in counts.items() if count > 12}


def test_files_of_the_model_have_at_most_200_lines(repo_root):
    lines = {
        path.name: path.read_text(encoding="utf-8").count("\n")
        for path in (repo_root / "ctvlm/models/vlms").glob("*.py")
    }
    assert max(lines.values()) <= 200
