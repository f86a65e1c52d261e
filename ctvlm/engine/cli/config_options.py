"""The command-line option ``--cfg-options key=value ...``."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterable
from typing import Any

from ctvlm.engine.cli.config_error import ConfigError

# Replaces spaces while mmengine parses a list. It is a private-use character, which texts do not contain.
_SPACE = "\ue000"


class ConfigOptions(argparse.Action):
    """argparse action of ``--cfg-options key=value ...``; see ``parse_options``."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Parse the pairs. A pair without an equals sign is an error."""
        try:
            options = parse_options(values)
        except ConfigError as error:
            parser.error(str(error))
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest, None) or {}), **options})


def parse_options(pairs: Iterable[str]) -> dict[str, Any]:
    """Parse ``key=value`` pairs.

    A value that is a Python literal is read as such. Other values are read as in mmengine: ``a,b`` and ``[a,b]`` are
    lists of strings. Spaces and parentheses inside a string, for example in a path, are preserved.

    Raises:
        ConfigError: a pair without an equals sign.
    """
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--cfg-options: found '{pair}'; expected key=value")
        options[key] = _parse(value)
    return options


def _parse(value: str) -> Any:
    try:
        literal = ast.literal_eval(value)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        pass
    else:
        if _is_plain(literal):
            return literal
    from mmengine.config import DictAction  # imports torch

    if value[:1] not in ("[", "(") and "," not in value:
        return DictAction._parse_int_float_bool(value)
    # mmengine removes all spaces from a list. Replace those inside a string first.
    trimmed = re.sub(r"\s*([,\[\]()])\s*", r"\1", value.strip())
    return _restore_spaces(DictAction._parse_iterable(re.sub(r"\s", _SPACE, trimmed)))


def _is_plain(value: Any) -> bool:
    """Whether a literal has a type that occurs in configs."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, (str, bool, int, float))


def _restore_spaces(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_restore_spaces(item) for item in value)
    return value.replace(_SPACE, " ") if isinstance(value, str) else value
