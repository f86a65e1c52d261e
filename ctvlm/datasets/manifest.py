"""The case manifest: JSON Lines, one case per line; what every converter writes and every data set reads.

A case::

    {
        "case_id": "p1_a",
        "patient_id": "p1",
        "split": "train",
        "volume": "ct/p1_a.nii.gz",
        "region_map": {"path": "seg/p1_a.nii.gz", "source": "totalsegmentator_v2"},
        "lesion_masks": [{"path": "lesion/p1_a.nii.gz", "id": 1, "name": "lung nodule"}],
        "report": {"findings": "...", "impression": "..."},
        "cot": [
            {"step": 1, "text": "...", "entities": ["lung nodule"], "regions": ["lung_upper_lobe_left"], "lesion": 1}
        ],
        "labels": {"Lung nodule": 1, "Emphysema": 0, "Hiatal hernia": null},
        "source": "CT-RATE v2",
        "extra": {},
    }

Only the first four keys are required. Paths are relative to the manifest; they and its own may be fsspec URLs.
A report text such as "Not given.", "N/A" or "-" counts as missing. ``volume`` may be an object whose other keys are
options of ``read_ct`` (``{"path": "a.nii.gz", "rescale": [1, -1024]}``). ``region_map`` may be a path (ids of the data
set's declared source) or ``{"files": {"aorta": "aorta.nii.gz"}}``, one file per class. A lesion mask without ``id`` is
a label map whose values are lesion ids. A step that answers a question may keep it under ``question``; one that says
nothing but that its regions are normal has ``"normal": true``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ctvlm.utils.placeholders import is_missing
from ctvlm.volume import files

REQUIRED = ("case_id", "patient_id", "split", "volume")
OPTIONAL = ("region_map", "lesion_masks", "report", "cot", "labels", "source", "extra")
VOLUME_OPTIONS = {"rescale", "spacing", "axes", "key", "affine", "check_range", "modality"}
MASK_OPTIONS = {"spacing", "axes", "key"}

Case = dict[str, Any]


class ManifestError(ValueError):
    """A manifest that cannot be used; the message names the file and, where there is one, the line."""


def read_manifest(path: str | Path, split: str | None = None) -> list[Case]:
    """Read and check every line, then keep the cases of ``split``; file paths come back absolute and normalised.

    The returned cases have every key; ``volume`` is ``{"path", **options}``, ``region_map`` ``{"path" | "files",
    "source", **options}`` or None, ``lesion_masks`` a list of ``{"path", "id", "name"}``. Files are not opened.

    Raises:
        FileNotFoundError: there is no such manifest.
        ManifestError: empty, not JSON Lines, a key missing, unknown or of the wrong type, a case twice, a
            patient in two splits, or no case in ``split``.
    """
    cases: list[Case] = []
    try:
        # Not splitlines(): that also splits at U+2028, U+2029 and U+0085, which JSON texts may hold.
        lines = files.read_bytes(path).decode("utf-8").split("\n")
    except (FileNotFoundError, IsADirectoryError):
        raise FileNotFoundError(
            f"no manifest at {path}; write one with a converter in tools/dataset_converters"
        ) from None
    except UnicodeDecodeError:
        raise ManifestError(f"{path} is not UTF-8 text; expected JSON Lines, one case per line") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            cases.append(_case(json.loads(line), files.parent(path)))
        except json.JSONDecodeError as error:
            raise ManifestError(f"{path}, line {number}: not JSON ({error}); expected one case per line") from None
        except ManifestError as error:
            raise ManifestError(f"{path}, line {number}: {error}") from None
    if not cases:
        raise ManifestError(f"{path} holds no case; the converter that wrote it matched nothing")
    _check_together(cases, path)
    if split is None:
        return cases
    kept = [case for case in cases if case["split"] == split]
    if not kept:
        counts: dict[str, int] = {}
        for case in cases:
            counts[case["split"]] = counts.get(case["split"], 0) + 1
        raise ManifestError(
            f"{path} has no case in split {split!r}; its splits are {counts}: set split= to one of them"
        )
    return kept


def write_manifest(cases: Iterable[Case], path: str | Path) -> int:
    """Check the cases and write them atomically, absolute paths made relative to the manifest; returns how many.

    Raises:
        ManifestError: as ``read_manifest``; nothing is written then.
    """
    root = files.parent(path)
    cases = list(cases)
    if not cases:
        raise ManifestError(f"{path}: found 0 cases to write; nothing was written")
    checked = []
    for number, case in enumerate(cases, start=1):
        try:
            checked.append(_case(case, root))
        except ManifestError as error:
            raise ManifestError(f"case {number} for {path}: {error}") from None
    _check_together(checked, path)
    lines = [json.dumps(_relative(case, root), ensure_ascii=False) + "\n" for case in cases]
    files.write_bytes(path, "".join(lines).encode("utf-8"))
    return len(cases)


def _need(value: Any, kind: type | tuple[type, ...], name: str, expected: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ManifestError(f"{name} is {json.dumps(value, default=str)[:80]}; expected {expected}")
    return value


def _case(raw: Any, root: str) -> Case:
    """Check one case and bring it to the full form."""
    _need(raw, dict, "the line", "an object with a case's keys")
    missing = [key for key in REQUIRED if key not in raw]
    if missing:
        raise ManifestError(f"key {missing[0]!r} is missing; required are {', '.join(REQUIRED)}")
    unknown = sorted(set(raw) - set(REQUIRED) - set(OPTIONAL))
    if unknown:
        raise ManifestError(
            f"unknown key {unknown[0]!r}; known are {', '.join(REQUIRED + OPTIONAL)}; put others in 'extra'"
        )
    for key in ("case_id", "patient_id", "split"):
        if not _need(raw[key], str, key, "a text"):
            raise ManifestError(f"{key} is empty")
    report = _need(raw.get("report") or {}, dict, "report", "an object of texts")
    for key, text in report.items():
        _need(text, (str, type(None)), f"report.{key}", "a text")
    labels = _need(raw.get("labels") or {}, dict, "labels", "an object of name: 0, 1 or null")
    for name, value in labels.items():
        if value not in (0, 1, None):
            raise ManifestError(f"labels.{name} is {value!r}; expected 0, 1 or null")
    cot = _need(raw.get("cot") or [], list, "cot", "a list of steps")
    return {
        **{key: raw[key] for key in ("case_id", "patient_id", "split")},
        "volume": _volume(raw["volume"], root),
        "region_map": _region_map(raw.get("region_map"), root),
        "lesion_masks": [
            _lesion(m, root) for m in _need(raw.get("lesion_masks") or [], list, "lesion_masks", "a list of masks")
        ],
        "report": {key: text for key, text in report.items() if not is_missing(text)},
        "cot": [_step(step, number) for number, step in enumerate(cot, start=1)],
        "labels": labels,
        "source": raw.get("source"),
        "extra": raw.get("extra") or {},
    }


def _volume(raw: Any, root: str) -> dict:
    raw = {"path": raw} if isinstance(raw, str) else _need(raw, dict, "volume", "a path or an object with 'path'")
    return {**_options(raw, "volume", VOLUME_OPTIONS), "path": _path(raw.get("path"), "volume", root)}


def _region_map(raw: Any, root: str) -> dict | None:
    if raw is None:
        return None
    expected = "a path, or an object with 'path' or 'files'"
    raw = {"path": raw} if isinstance(raw, str) else _need(raw, dict, "region_map", expected)
    out = _options(raw, "region_map", MASK_OPTIONS, "source", "files")
    if ("path" in raw) == ("files" in raw):
        raise ManifestError(f"region_map has keys {sorted(raw)}; expected {expected}")
    if "path" in raw:
        return {**out, "path": _path(raw["path"], "region_map", root)}
    masks = _need(raw["files"], dict, "region_map.files", "an object of class name: path")
    return {**out, "files": {name: _path(p, f"region_map.files.{name}", root) for name, p in masks.items()}}


def _lesion(raw: Any, root: str) -> dict:
    expected = "a path, or an object with 'path', 'id' and 'name'"
    raw = {"path": raw} if isinstance(raw, str) else _need(raw, dict, "a lesion mask", expected)
    out = _options(raw, "a lesion mask", MASK_OPTIONS, "id", "name")
    number = raw.get("id")
    if number is not None and not 1 <= _need(number, int, "a lesion id", "a number from 1 to 255") <= 255:
        raise ManifestError(f"a lesion id is {number}; expected 1..255")
    return {"id": None, "name": None, **out, "path": _path(raw.get("path"), "a lesion mask", root)}


def _step(raw: Any, number: int) -> dict:
    _need(raw, dict, f"cot step {number}", "an object with 'text'")
    lists = {
        k: _need(raw.get(k) or [], list, f"cot step {number}: {k}", "a list of texts") for k in ("entities", "regions")
    }
    lesion = raw.get("lesion")
    if lesion is not None:
        _need(lesion, int, f"cot step {number}: lesion", "the id of a lesion, or null")
    text = _need(raw.get("text"), str, f"cot step {number}: text", "a text")
    step = {"step": raw.get("step", number), "text": text, **lists, "lesion": lesion}
    if "normal" in raw:
        step["normal"] = _need(raw["normal"], bool, f"cot step {number}: normal", "true or false")
    if raw.get("question"):
        step["question"] = _need(raw["question"], str, f"cot step {number}: question", "a text")
    return step


def _options(raw: dict, name: str, known: set[str], *more: str) -> dict:
    unknown = sorted(set(raw) - known - {"path", *more})
    if unknown:
        raise ManifestError(
            f"{name} has the unknown key {unknown[0]!r}; known are path, {', '.join(sorted({*known, *more}))}"
        )
    return {key: value for key, value in raw.items() if key != "path"}


def _path(raw: Any, name: str, root: str) -> str:
    if not _need(raw, str, f"the path of {name}", "a text"):
        raise ManifestError(f"the path of {name} is empty")
    return files.join(root, raw)


def _check_together(cases: list[Case], path: Path) -> None:
    split_of: dict[str, str] = {}
    seen: set[str] = set()
    for case in cases:
        if case["case_id"] in seen:
            raise ManifestError(f"{path}: case {case['case_id']!r} is there twice; case_id must be unique")
        seen.add(case["case_id"])
        other = split_of.setdefault(case["patient_id"], case["split"])
        if other != case["split"]:
            raise ManifestError(
                f"{path}: patient {case['patient_id']!r} is in the splits {other!r} and {case['split']!r}; a patient "
                "belongs to one split, or the test figures mean nothing"
            )


def _relative(value: Any, root: str, key: str = "") -> Any:
    """Absolute paths, wherever the schema holds one, relative to the manifest's folder."""
    if isinstance(value, dict):
        inside = {k: _relative(v, root, "path" if key == "files" else k) for k, v in value.items()}
        return inside if key != "extra" else value
    if isinstance(value, list):
        return [_relative(v, root, key) for v in value]
    if isinstance(value, str) and key in ("volume", "region_map", "lesion_masks", "path"):
        return files.relative(value, root)
    return value
