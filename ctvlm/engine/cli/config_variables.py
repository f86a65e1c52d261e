"""Variables of a text-style config: ``ann_file = "a.jsonl"``, used further down as ``dict(ann_file=ann_file)``.

mmengine evaluates each file once, so changing such a variable afterwards, on the command line or in a child config,
leaves the dictionaries that were built from it as they are. Here the new value is written into the file that assigns
the variable, and mmengine evaluates the files again, from a temporary copy.
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

_BASE_REFERENCE = re.compile(r"\{\{\s*_base_\.([\w.]+)\s*\}\}")
# mmengine's references to bases, environment variables and file names, which are not Python.
_REFERENCE = re.compile(r"\{\{[^{}\n]*\}\}")


@dataclass
class ConfigFile:
    """One config file: its text, the variables that it assigns and reads, and its base files.

    Attributes:
        base_span: source span (start, stop) of the value of ``_base_``.
        assigned: top-level name to the source spans of the values assigned to it.
        read: names that the file reads, its bases' through ``{{_base_.name}}`` included.
    """

    path: Path
    text: str
    bases: list[ConfigFile] = field(default_factory=list)
    base_span: tuple[int, int] | None = None
    assigned: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)

    def family(self) -> list[ConfigFile]:
        """This file and all files below it."""
        return [self, *(file for base in self.bases for file in base.family())]


def parse_config(path: Path) -> ConfigFile:
    """Read a config file and its bases as source, without running them."""
    text = path.read_text(encoding="utf-8")
    file = ConfigFile(path, text, read={name.split(".")[0] for name in _BASE_REFERENCE.findall(text)})
    if path.suffix != ".py":
        return file
    # An identifier of the same length keeps all positions.
    tree = ast.parse(_REFERENCE.sub(lambda match: "_" * len(match.group()), text))
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else ()
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if names == ["_base_"]:
            file.base_span = _span(text, statement.value)
            file.bases = [parse_config(path.parent / name) for name in _base_names(file) if "::" not in name]
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
    """Names that some file assigns and some file reads."""
    family = file.family()
    return set.union(*(set(f.assigned) for f in family)) & set.union(*(f.read for f in family))


def variables_set_for_bases(file: ConfigFile, values: dict[str, Any], but: Collection[str]) -> dict[str, Any]:
    """Variables that a file assigns but does not read, while its base files do: meant for the bases.

    A file that reads the variable as well has uses of its own for it; mmengine's rule then stands.
    """
    out: dict[str, Any] = {}
    for child in reversed(file.family()):
        below = [f for base in child.bases for f in base.family()]
        for name in set(child.assigned) - set(but):
            if name in child.read and name in out:
                del out[name]  # closer to the config than the child that set it for the bases
            elif name not in child.read and any(name in f.assigned and name in f.read for f in below):
                out[name] = values[name]
    return out


def load_with_variables(file: ConfigFile, values: dict[str, Any]) -> Config:
    """The config with each variable of ``values`` set to its value in every file that assigns it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = _write_copy(file, values, Path(folder))
        cfg = Config.fromfile(str(copy))
    return Config(cfg.to_dict(), cfg_text=cfg.text, filename=str(file.path))


def _write_copy(file: ConfigFile, values: dict[str, Any], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    edits = [(span, repr(value)) for name, value in values.items() for span in file.assigned.get(name, ())]
    if file.base_span is not None:
        copies = iter(_write_copy(base, values, folder / str(i)) for i, base in enumerate(file.bases))
        # A name with "::" is a config of another package, and stays.
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
        text = re.sub(r"\{\{\s*" + key + r"\s*\}\}", lambda _, value=value: value.replace("\\", "/"), text)
    copy = folder / file.path.name
    copy.write_text(text, encoding="utf-8")
    return copy


def _base_names(file: ConfigFile) -> list[str]:
    names = ast.literal_eval(file.text[slice(*file.base_span)])
    return [names] if isinstance(names, str) else list(names)


def _span(text: str, node: ast.expr) -> tuple[int, int]:
    """Start and stop of a node in ``text``; ast counts lines from 1 and columns in bytes of UTF-8."""
    lines = text.split("\n")

    def position(line: int, column: int) -> int:
        return sum(len(before) + 1 for before in lines[: line - 1]) + len(lines[line - 1].encode()[:column].decode())

    return position(node.lineno, node.col_offset), position(node.end_lineno, node.end_col_offset)
