"""Checks of the values in a manifest line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

from ctvlm.datasets.manifest_paths import ManifestError

MAX_DEPTH = 32
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_line(line: str) -> Any:
    """Parse a line as JSON.

    Raises:
        ManifestError: not JSON, nested too deeply, or with numbers or characters that cannot be stored.
    """
    try:
        value = json.loads(line, parse_constant=_no_constant)
    except RecursionError:
        raise ManifestError(f"nested more than {MAX_DEPTH} levels deep; expected one case per line") from None
    except ValueError as error:  # also a number with more digits than Python converts
        raise ManifestError(f"not JSON ({error}); expected one case per line") from None
    _check_nesting(value, 0, "\\u" in line or _LONE_SURROGATE.search(line) is not None)
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number in JSON")


def _check_nesting(value: Any, depth: int, escapes: bool) -> None:
    if depth > MAX_DEPTH:
        raise ManifestError(f"nested more than {MAX_DEPTH} levels deep; expected one case per line")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_nesting(key, depth, escapes)
            _check_nesting(item, depth + 1, escapes)
    elif isinstance(value, list):
        for item in value:
            _check_nesting(item, depth + 1, escapes)
    elif isinstance(value, str):
        if escapes and (found := _LONE_SURROGATE.search(value)):
            raise ManifestError(f"found the half character {found[0]!r} in {value[:40]!r}; expected UTF-8 text")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ManifestError("found a number that is too large for a float")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise ManifestError("found a number with more than 18 digits")


def check_type(value: Any, kind: type | tuple[type, ...], name: str, expected: str) -> Any:
    """Return ``value`` if it is of a type; true and false are not numbers."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ManifestError(f"{name}: found {json.dumps(value, default=str)[:80]}; expected {expected}")
    return value


def check_texts(value: Any, name: str) -> list[str]:
    """Return a list of texts; [] for null."""
    return [check_type(item, str, name, "a list of texts") for item in check_type(value or [], list, name, "a list")]


def check_text(value: Any, name: str) -> str | None:
    """Return a text or None."""
    return check_type(value, (str, type(None)), name, "a text")


def _numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == count
        and all(isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x) for x in value)
    )


def _is_axes(value: Any) -> bool:
    pairs = [{"R", "L"}, {"A", "P"}, {"S", "I"}]
    return isinstance(value, str) and len(value) == 3 and all(len(pair & set(value.upper())) == 1 for pair in pairs)


def _is_affine(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 4 and all(_numbers(row, 4) for row in value)


# Options of read_ct and read_label_map: test, and what is expected.
OPTIONS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "rescale": (lambda v: _numbers(v, 2) and v[0] != 0, "[slope, intercept]"),
    "spacing": (lambda v: _numbers(v, 3) and min(v) > 0, "three sizes in mm [z, y, x]"),
    "axes": (_is_axes, "three directions such as 'LPS'"),
    "key": (lambda v: isinstance(v, str), "a text"),
    "affine": (_is_affine, "a 4x4 matrix"),
    "check_range": (lambda v: isinstance(v, bool), "true or false"),
    "modality": (lambda v: isinstance(v, str), "a text such as 'CT'"),
}


def check_options(raw: dict, name: str, known: set[str], *more: str) -> dict:
    """Return the options of an image without its ``path``; an option that is null is left out."""
    unknown = sorted(set(raw) - known - {"path", *more})
    if unknown:
        known_keys = ", ".join(sorted({*known, *more}))
        raise ManifestError(f"{name}: unknown key {unknown[0]!r}; known keys: path, {known_keys}")
    for key, (is_valid, expected) in OPTIONS.items():
        if raw.get(key) is not None and not is_valid(raw[key]):
            raise ManifestError(f"{name}: {key}: found {json.dumps(raw[key], default=str)[:80]}; expected {expected}")
    return {key: value for key, value in raw.items() if key != "path" and (value is not None or key not in OPTIONS)}


def check_extra(raw: Any) -> dict:
    """Return ``extra``, whose keys that ctvlm reads must have the right types; {} for null."""
    extra = check_type(raw or {}, dict, "extra", "an object")
    if extra.get("sets") is not None:
        check_texts(extra["sets"], "extra.sets")
    for key in ("labels_source", "text_origin"):
        check_text(extra.get(key), f"extra.{key}")
    kept = check_type(extra.get("region_kept") or {}, dict, "extra.region_kept", "an object of name: fraction")
    for key, value in kept.items():
        check_type(value, (int, float), f"extra.region_kept.{key}", "a fraction")
    return extra
