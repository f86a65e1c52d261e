"""Check that the predictions of several models are for the same cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ctvlm.utils import CTVLMError

MAX_LISTED = 5
# Annotations that come from the data and not from the model.
_TRUTH = ("patient_id", "labels", "impression")


class OtherCasesError(CTVLMError):
    """Models were evaluated on different cases. The message names the models and the cases."""


def check_same_cases(dumps: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise an OtherCasesError if a model has other cases, patients, labels or impressions than the first one.

    Args:
        dumps: name of a model to its dump (``load_dump``).
    """
    first, *others = dumps
    expected = _by_id(first, dumps[first]["cases"])
    problems = [text for name in others if (text := _difference(first, expected, name, dumps[name]["cases"]))]
    if problems:
        raise OtherCasesError(
            f"models were evaluated on different data: {'; '.join(problems)}. Only models with the same cases can be "
            "compared: run them on one manifest with --data"
        )


def _by_id(name: str, cases: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for case in cases:
        case_id = str(case.get("case_id"))
        if case_id in found:
            raise OtherCasesError(f"{name}: found case {case_id} twice; expected each case once. Write the dump again")
        found[case_id] = case
    if not found:
        raise OtherCasesError(f"{name}: found no cases; expected predictions of at least one case")
    return found


def _difference(first: str, expected: Mapping[str, Any], name: str, cases: Iterable[Mapping[str, Any]]) -> str:
    """What differs; an empty string if nothing does."""
    found = _by_id(name, cases)
    missing, extra = (sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys()))
    if missing or extra:
        parts = [f"{len(found)} cases in {name}, {len(expected)} in {first}"]
        parts += [f"{name} has no {_listed(missing)}"] if missing else []
        parts += [f"only {name} has {_listed(extra)}"] if extra else []
        return ", ".join(parts)
    for key in _TRUTH:
        # A dump contains only the keys that its metrics needed.
        both = [case for case in expected if key in expected[case] and key in found[case]]
        other = [case for case in both if _value(expected[case], key) != _value(found[case], key)]
        if other:
            return f"{name} has another {key} than {first} for {_listed(other)}"
    return ""


def _value(case: Mapping[str, Any], key: str) -> Any:
    value = case[key]
    return {name: label for name, label in value.items() if label is not None} if key == "labels" and value else value


def _listed(cases: list[str]) -> str:
    more = len(cases) - MAX_LISTED
    return ", ".join(cases[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
