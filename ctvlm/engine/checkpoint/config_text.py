"""Read the config that mmengine writes into a checkpoint: Python text, parsed as data and never executed."""

from __future__ import annotations

import ast
import math
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ctvlm.engine.checkpoint.files import CheckpointError
from ctvlm.engine.checkpoint.upgrade import upgrade_config

_BITS = 1024
_NAMES = {"inf": math.inf, "nan": math.nan}


def checkpoint_config(checkpoint: dict, path: str | Path) -> Config:
    """The config that a checkpoint contains (``meta["cfg"]``), with current keys.

    Modules named in ``custom_imports`` are not imported.

    Args:
        checkpoint: content of ``read_checkpoint``.
        path: file of the checkpoint, for the error messages.

    Raises:
        CheckpointError: the checkpoint has no config, or the text is more than assignments of plain values.
    """
    text = (checkpoint.get("meta") or {}).get("cfg")
    if not isinstance(text, str) or not text.strip():
        raise CheckpointError(
            f"checkpoint {path} contains no config (meta.cfg): pass the config that it was trained with"
        )
    try:
        values = parse_config_text(text)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise CheckpointError(
            f"the config in checkpoint {path} (meta.cfg) is not plain data: {error}. Pass the config that it was "
            "trained with"
        ) from error
    return upgrade_config(Config(values, cfg_text=text, filename=str(path)))


def parse_config_text(text: str) -> dict[str, Any]:
    """Parse ``name = value`` lines, whose values are literals and calls of ``dict``.

    Raises:
        SyntaxError: the text is not Python.
        ValueError: any other statement or expression; the message contains its line.
    """
    values = {}
    for statement in ast.parse(text).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if not isinstance(statement, ast.Assign) or len(targets) != 1 or not isinstance(targets[0], ast.Name):
            raise ValueError(f"line {statement.lineno}: found {ast.unparse(statement)[:60]!r}; expected 'name = value'")
        values[targets[0].id] = _value(statement.value)
    return values


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, int) and node.value.bit_length() > _BITS:  # Python cannot print very long ones
            raise ValueError(f"line {node.lineno}: found a number of {node.value.bit_length()} bits")
        return node.value
    if isinstance(node, (ast.List, ast.Tuple)):
        kind = list if isinstance(node, ast.List) else tuple
        return kind(_value(item) for item in node.elts)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_value(key): _value(item) for key, item in zip(node.keys, node.values) if key is not None}
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "dict" and len(node.args) <= 1:
        items = _value(node.args[0]) if node.args else {}
        named = {item.arg: _value(item.value) for item in node.keywords if item.arg is not None}
        if isinstance(items, dict) and len(named) == len(node.keywords):
            return items | named
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        operand = _value(node.operand)
        if isinstance(operand, (int, float)):
            return -operand
    if isinstance(node, ast.Name) and node.id in _NAMES:
        return _NAMES[node.id]
    raise ValueError(f"line {node.lineno}: found {ast.unparse(node)[:60]!r}; expected a literal")
