"""``--cfg-options key=value ...`` of the command line."""

from __future__ import annotations

import argparse
import ast
import re
from typing import Any

from mmengine.config import DictAction

# Stands for a space while mmengine parses a list; a private-use character, so that no text contains it.
_SPACE = "\ue000"


class ConfigOptions(DictAction):
    """argparse action of ``--cfg-options key=value ...``.

    A value is read as a Python literal if it is one, else as mmengine does: ``a,b`` and ``[a,b]`` are lists of words.
    Spaces and parentheses inside a value, as in paths and names of findings, stay.
    """

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Collect the pairs; a pair without an equals sign is an error."""
        options = dict(getattr(namespace, self.dest, None) or {})
        for pair in values:
            key, equals, value = pair.partition("=")
            if not equals:
                parser.error(f"--cfg-options takes key=value, found '{pair}'")
            options[key] = self._parse(value)
        setattr(namespace, self.dest, options)

    def _parse(self, value: str) -> Any:
        try:
            literal = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            pass
        else:
            if _is_plain(literal):
                return literal
        if value[:1] not in ("[", "(") and "," not in value:
            return self._parse_int_float_bool(value)
        # mmengine removes all spaces from a list. Those inside a word are to stay.
        trimmed = re.sub(r"\s*([,\[\]()])\s*", r"\1", value.strip())
        return _restore_spaces(self._parse_iterable(re.sub(r"\s", _SPACE, trimmed)))


def _is_plain(value: Any) -> bool:
    """Whether a literal is of a type that configs are made of."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, (str, bool, int, float))


def _restore_spaces(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_restore_spaces(item) for item in value)
    return value.replace(_SPACE, " ") if isinstance(value, str) else value
