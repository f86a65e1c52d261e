"""Case manifest: JSON Lines with one case per line, written by converters and read by data sets.

Example of a case (one line in the file)::

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

Only the first four keys are required. Paths are relative to the manifest. Paths and the manifest may be fsspec URLs.
Report texts such as "Not given.", "N/A" or "-" are treated as missing. ``volume`` may be an object whose other keys are
options of ``read_ct`` (``{"path": "a.nii.gz", "rescale": [1, -1024]}``). ``region_map`` may be a path (with the label
map declared by the data set) or ``{"files": {"aorta": "aorta.nii.gz"}}`` with one file per class. A lesion mask without
``id`` is a label map whose values are lesion ids. A step may have a ``question`` that it answers, and
``"normal": true`` if it only states that its regions are normal.
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
    """Invalid manifest; the message contains the file and, if known, the line."""


def read_manifest(path: str | Path, split: str | None = None) -> list[Case]:
    """Read and check a manifest, and return the cases of ``split`` (None: all) with absolute paths.

    The returned cases have all keys: ``volume`` is ``{"path", **options}``, ``region_map`` is ``{"path" | "files",
    "source", **options}`` or None, ``lesion_masks`` is a list of ``{"path", "id", "name"}``. Images are not opened.

    Raises:
        FileNotFoundError: the manifest does not exist.
        ManifestError: empty, not JSON Lines, a missing, unknown or invalid key, a duplicate case, a patient in two
            splits, or no case in ``split``.
    """
    cases: list[Case] = []
    try:
        # Not splitlines(), because JSON strings may contain U+2028, U+2029 and U+0085.
        lines = files.read_bytes(path).decode("utf-8").split("\n")
    except (FileNotFoundError, IsADirectoryError):
        raise FileNotFoundError(
            f"{path}: manifest not found; create it with a converter in tools/dataset_converters"
        ) from None
    except UnicodeDecodeError:
        raise ManifestError(f"{path}: not UTF-8 text; expected JSON Lines with one case per line") from None
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
        raise ManifestError(f"{path}: found 0 cases; expected one case, a JSON object, per line")
    _check_cases(cases, path)
    if split is None:
        return cases
    kept = [case for case in cases if case["split"] == split]
    if not kept:
        counts: dict[str, int] = {}
        for case in cases:
            counts[case["split"]] = counts.get(case["split"], 0) + 1
        raise ManifestError(f"{path}: found no case in split {split!r}; set split= to one of {counts}")
    return kept


def write_manifest(cases: Iterable[Case], path: str | Path) -> int:
    """Check and write cases atomically, with paths relative to the manifest; returns the number of cases.

    Raises:
        ManifestError: see ``read_manifest``; nothing is written.
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
            raise ManifestError(f"{path}, case {number}: {error}") from None
    _check_cases(checked, path)
    lines = [json.dumps(_relative(case, root), ensure_ascii=False) + "\n" for case in cases]
    files.write_bytes(path, "".join(lines).encode("utf-8"))
    return len(cases)


def _check_type(value: Any, kind: type | tuple[type, ...], name: str, expected: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ManifestError(f"{name}: found {json.dumps(value, default=str)[:80]}; expected {expected}")
    return value


def _case(raw: Any, root: str) -> Case:
    """Check one case and add the missing keys."""
    _check_type(raw, dict, "the line", "an object with the keys of a case")
    missing = [key for key in REQUIRED if key not in raw]
    if missing:
        raise ManifestError(f"missing key {missing[0]!r}; required keys: {', '.join(REQUIRED)}")
    unknown = sorted(set(raw) - set(REQUIRED) - set(OPTIONAL))
    if unknown:
        raise ManifestError(
            f"unknown key {unknown[0]!r}; known keys: {', '.join(REQUIRED + OPTIONAL)}; put other data into 'extra'"
        )
    for key in ("case_id", "patient_id", "split"):
        if not _check_type(raw[key], str, key, "a text"):
            raise ManifestError(f"{key}: found an empty text")
    report = _check_type(raw.get("report") or {}, dict, "report", "an object of texts")
    for key, text in report.items():
        _check_type(text, (str, type(None)), f"report.{key}", "a text")
    labels = _check_type(raw.get("labels") or {}, dict, "labels", "an object of name: 0, 1 or null")
    for name, value in labels.items():
        if value not in (0, 1, None):
            raise ManifestError(f"labels.{name}: found {value!r}; expected 0, 1 or null")
    cot = _check_type(raw.get("cot") or [], list, "cot", "a list of steps")
    return {
        **{key: raw[key] for key in ("case_id", "patient_id", "split")},
        "volume": _volume(raw["volume"], root),
        "region_map": _region_map(raw.get("region_map"), root),
        "lesion_masks": [
            _lesion(m, root)
            for m in _check_type(raw.get("lesion_masks") or [], list, "lesion_masks", "a list of masks")
        ],
        "report": {key: text for key, text in report.items() if not is_missing(text)},
        "cot": [_step(step, number) for number, step in enumerate(cot, start=1)],
        "labels": labels,
        "source": raw.get("source"),
        "extra": raw.get("extra") or {},
    }


def _volume(raw: Any, root: str) -> dict:
    raw = {"path": raw} if isinstance(raw, str) else _check_type(raw, dict, "volume", "a path or an object with 'path'")
    return {**_options(raw, "volume", VOLUME_OPTIONS), "path": _path(raw.get("path"), "volume", root)}


def _region_map(raw: Any, root: str) -> dict | None:
    if raw is None:
        return None
    expected = "a path, or an object with 'path' or 'files'"
    raw = {"path": raw} if isinstance(raw, str) else _check_type(raw, dict, "region_map", expected)
    out = _options(raw, "region_map", MASK_OPTIONS, "source", "files")
    if ("path" in raw) == ("files" in raw):
        raise ManifestError(f"region_map: found keys {sorted(raw)}; expected {expected}")
    if "path" in raw:
        return {**out, "path": _path(raw["path"], "region_map", root)}
    masks = _check_type(raw["files"], dict, "region_map.files", "an object of class name: path")
    return {**out, "files": {name: _path(p, f"region_map.files.{name}", root) for name, p in masks.items()}}


def _lesion(raw: Any, root: str) -> dict:
    expected = "a path, or an object with 'path', 'id' and 'name'"
    raw = {"path": raw} if isinstance(raw, str) else _check_type(raw, dict, "lesion mask", expected)
    out = _options(raw, "lesion mask", MASK_OPTIONS, "id", "name")
    number = raw.get("id")
    if number is not None and not 1 <= _check_type(number, int, "lesion id", "a number from 1 to 255") <= 255:
        raise ManifestError(f"lesion id: found {number}; expected 1..255")
    return {"id": None, "name": None, **out, "path": _path(raw.get("path"), "lesion mask", root)}


def _step(raw: Any, number: int) -> dict:
    _check_type(raw, dict, f"cot step {number}", "an object with 'text'")
    lists = {
        k: _check_type(raw.get(k) or [], list, f"cot step {number}: {k}", "a list of texts")
        for k in ("entities", "regions")
    }
    lesion = raw.get("lesion")
    if lesion is not None:
        _check_type(lesion, int, f"cot step {number}: lesion", "the id of a lesion, or null")
    text = _check_type(raw.get("text"), str, f"cot step {number}: text", "a text")
    step = {"step": raw.get("step", number), "text": text, **lists, "lesion": lesion}
    if "normal" in raw:
        step["normal"] = _check_type(raw["normal"], bool, f"cot step {number}: normal", "true or false")
    if raw.get("question"):
        step["question"] = _check_type(raw["question"], str, f"cot step {number}: question", "a text")
    return step


def _options(raw: dict, name: str, known: set[str], *more: str) -> dict:
    unknown = sorted(set(raw) - known - {"path", *more})
    if unknown:
        raise ManifestError(
            f"{name}: unknown key {unknown[0]!r}; known keys: path, {', '.join(sorted({*known, *more}))}"
        )
    return {key: value for key, value in raw.items() if key != "path"}


def _path(raw: Any, name: str, root: str) -> str:
    if not _check_type(raw, str, f"path of {name}", "a text"):
        raise ManifestError(f"path of {name}: found an empty text")
    return files.join(root, raw)


def _check_cases(cases: list[Case], path: str | Path) -> None:
    split_of: dict[str, str] = {}
    seen: set[str] = set()
    for case in cases:
        if case["case_id"] in seen:
            raise ManifestError(f"{path}: duplicate case {case['case_id']!r}; case_id must be unique")
        seen.add(case["case_id"])
        other = split_of.setdefault(case["patient_id"], case["split"])
        if other != case["split"]:
            raise ManifestError(
                f"{path}: patient {case['patient_id']!r} is in the splits {other!r} and {case['split']!r}; a patient "
                "must be in one split"
            )


def _relative(value: Any, root: str, key: str = "") -> Any:
    """Make all absolute paths relative to the folder of the manifest."""
    if isinstance(value, dict):
        inside = {k: _relative(v, root, "path" if key == "files" else k) for k, v in value.items()}
        return inside if key != "extra" else value
    if isinstance(value, list):
        return [_relative(v, root, key) for v in value]
    if isinstance(value, str) and key in ("volume", "region_map", "lesion_masks", "path"):
        return files.relative(value, root)
    return value
