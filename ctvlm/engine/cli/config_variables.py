"""Variables of a config, such as ``ann_file = "a.jsonl"``, which is used later as ``dict(ann_file=ann_file)``.

mmengine evaluates each file once. If the command line or a child config changes a variable afterwards, the dictionaries
built from it keep the old value. This module writes the new value into a temporary copy of the file that assigns the
variable, and lets mmengine evaluate the copy.
"""

from __future__ import annotations

import ast
import re
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ctvlm.engine.cli.installed_configs import find_config
from ctvlm.utils.atomic import write_errors

_BASE_REFERENCE = re.compile(r"\{\{\s*_base_\.([\w.]+)\s*\}\}")
# mmengine's references to base configs, environment variables and file names, which are not valid Python.
_REFERENCE = re.compile(r"\{\{[^{}\n]*\}\}")


@dataclass
class ConfigFile:
    """One config file: its text, the variables that it assigns and reads, and its base files.

    Attributes:
        installed_bases: whether a base is an installed config that is named without its path.
        base_span: source span (start, stop) of the value of ``_base_``.
        assigned: source spans of the values assigned to each top-level name.
        read: names that the file reads, including names of its bases (``{{_base_.name}}``).
    """

    path: Path
    text: str
    bases: list[ConfigFile] = field(default_factory=list)
    installed_bases: bool = False
    base_span: tuple[int, int] | None = None
    assigned: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)

    def family(self) -> list[ConfigFile]:
        """This file and all its direct and indirect base files."""
        return [self, *(file for base in self.bases for file in base.family())]


def parse_config(path: Path) -> ConfigFile:
    """Parse the source of a config file and its bases, without executing it."""
    text = path.read_text(encoding="utf-8")
    file = ConfigFile(path, text, read={name.split(".")[0] for name in _BASE_REFERENCE.findall(text)})
    if path.suffix != ".py":
        return file
    # Replace references by identifiers of the same length, so that positions stay the same.
    tree = ast.parse(_REFERENCE.sub(lambda match: "_" * len(match.group()), text))
    for statement in tree.body:
        if not isinstance(statement, ast.Assign):
            continue
        names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
        if names == ["_base_"]:
            file.base_span = _span(text, statement.value)
            for name in _base_names(file):
                if "::" not in name:
                    base, installed = _base_path(path.parent, name)
                    file.bases.append(parse_config(base))
                    file.installed_bases |= installed or file.bases[-1].installed_bases
        else:
            for name in names:
                file.assigned.setdefault(name, []).append(_span(text, statement.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            file.read.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "_base_":
            file.read.add(node.attr)
    return file


def variables(file: ConfigFile) -> set[str]:
    """Names that one of the files assigns and one of the files reads."""
    family = file.family()
    return {name for f in family for name in f.assigned} & {name for f in family for name in f.read}


def variables_set_for_bases(file: ConfigFile, values: dict[str, Any], exclude: Collection[str]) -> dict[str, Any]:
    """Variables that a child config assigns for its bases: the bases assign and read them, the child only assigns them.

    If the child also reads the variable, mmengine's rule applies: the new value is used in the child only.
    """
    out: dict[str, Any] = {}
    for child in reversed(file.family()):
        below = [f for base in child.bases for f in base.family()]
        for name in set(child.assigned) - set(exclude):
            if name in child.read and name in out:
                del out[name]  # this child overrides the one that set the variable for the bases
            elif name not in child.read and any(name in f.assigned and name in f.read for f in below):
                out[name] = values[name]
    return out


def load_with_variables(file: ConfigFile, values: dict[str, Any]) -> Config:
    """Load a config with new values of variables, in every file that assigns them."""
    with tempfile.TemporaryDirectory() as folder:
        copy = _write_copy(file, values, Path(folder))
        cfg = Config.fromfile(str(copy))
    return Config(cfg.to_dict(), cfg_text=cfg.text, filename=str(file.path))


def _write_copy(file: ConfigFile, values: dict[str, Any], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    edits = [(span, repr(value)) for name, value in values.items() for span in file.assigned.get(name, ())]
    if file.base_span is not None:
        copies = iter(_write_copy(base, values, folder / str(i)) for i, base in enumerate(file.bases))
        # A name with "::" is a config of another package and is not copied.
        names = [name if "::" in name else str(next(copies)) for name in _base_names(file)]
        edits.append((file.base_span, repr(names)))
    text = file.text
    for (start, stop), value in sorted(edits, reverse=True):
        text = text[:start] + value + text[stop:]
    for key, value in (
        ("fileDirname", str(file.path.parent)),
        ("fileBasename", file.path.name),
        ("fileBasenameNoExtension", file.path.stem),
        ("fileExtname", file.path.suffix),
    ):
        replacement = value.replace("\\", "/")  # no backslashes, which re.sub would interpret
        text = re.sub(r"\{\{\s*" + key + r"\s*\}\}", replacement, text)
    copy = folder / file.path.name
    with write_errors(copy):
        copy.write_text(text, encoding="utf-8")
    return copy


def _base_path(folder: Path, name: str) -> tuple[Path, bool]:
    """Path of a base, and whether it is an installed config: relative to ``folder``, else by its name."""
    path = folder / name
    installed = None if path.is_file() else find_config(name)
    return (path, False) if installed is None else (installed, True)


def _base_names(file: ConfigFile) -> list[str]:
    if file.base_span is None:
        return []
    start, stop = file.base_span
    names = ast.literal_eval(file.text[start:stop])
    return [names] if isinstance(names, str) else list(names)


def _span(text: str, node: ast.expr) -> tuple[int, int]:
    """Start and stop of a node in ``text``. ast counts lines from 1, and columns in bytes of UTF-8."""
    lines = text.split("\n")

    def position(line: int, column: int) -> int:
        return sum(len(before) + 1 for before in lines[: line - 1]) + len(lines[line - 1].encode()[:column].decode())

    assert node.end_lineno is not None and node.end_col_offset is not None  # always set by ast.parse
    return position(node.lineno, node.col_offset), position(node.end_lineno, node.end_col_offset)
