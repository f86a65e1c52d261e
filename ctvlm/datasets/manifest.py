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

Only the first four keys are required. Paths are relative to the manifest, and must stay in its folder unless the reader
allows others (see ``read_manifest``). The manifest may be at a fsspec URL; a ``file://`` URL is a local path.
Report texts such as "Not given.", "N/A" or "-" are treated as missing. ``volume`` may be an object whose other keys are
options of ``read_ct`` (``{"path": "a.nii.gz", "rescale": [1, -1024]}``). ``region_map`` may be a path (with the label
map declared by the data set) or ``{"files": {"aorta": "aorta.nii.gz"}}`` with one file per class. A lesion mask without
``id`` is a label map whose values are lesion ids. A step may have a ``question`` that it answers, and
``"normal": true`` if it only states that its regions are normal. Its ``stage`` is ``observation``, ``reason`` or
``answer``, for chains with stages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ctvlm.datasets.manifest_paths import ManifestError, ManifestPaths
from ctvlm.datasets.manifest_values import check_extra, check_options, check_text, check_texts, check_type, parse_line
from ctvlm.structures import STAGES
from ctvlm.utils.placeholders import is_missing
from ctvlm.volume import files

REQUIRED = ("case_id", "patient_id", "split", "volume")
OPTIONAL = ("region_map", "lesion_masks", "report", "cot", "labels", "source", "extra")
VOLUME_OPTIONS = {"rescale", "spacing", "axes", "key", "affine", "check_range", "modality"}
MASK_OPTIONS = {"spacing", "axes", "key"}

Case = dict[str, Any]


def read_manifest(
    path: str | Path, split: str | None = None, *, allow_outside: bool = False, data_roots: Sequence[str | Path] = ()
) -> list[Case]:
    """Read and check a manifest, and return the cases of ``split`` (None: all) with absolute paths.

    The returned cases have all keys: ``volume`` is ``{"path", **options}``, ``region_map`` is ``{"path" | "files",
    "source", **options}`` or None, ``lesion_masks`` is a list of ``{"path", "id", "name"}``. Images are not opened.

    Args:
        allow_outside: accept files outside the manifest's folder. Only for manifests that you trust: a manifest can
            name any file that you can read.
        data_roots: further folders whose files are accepted, besides those of the environment variable
            CTVLM_DATA_ROOTS.

    Raises:
        FileNotFoundError: the manifest does not exist.
        ManifestError: empty, not JSON Lines, a missing, unknown or invalid key, a file outside the allowed folders, a
            duplicate case, a patient in two splits, or no case in ``split``.
    """
    cases: list[Case] = []
    paths = ManifestPaths(files.parent(path), allow_outside, data_roots)
    try:
        # Not splitlines(), because JSON strings may contain U+2028, U+2029 and U+0085.
        lines = files.read_bytes(path).decode("utf-8-sig").split("\n")
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
            cases.append(_case(parse_line(line), paths))
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
        raise ManifestError(f"{path}: found no case in split {split!r}; expected one of the splits {counts}")
    return kept


def write_manifest(cases: Iterable[Case], path: str | Path) -> int:
    """Check and write cases atomically, with paths relative to the manifest; returns the number of cases.

    Raises:
        ManifestError: see ``read_manifest``; nothing is written.
    """
    root = files.parent(path)
    paths = ManifestPaths(root, allow_outside=True)
    cases = [_relative(case, root) for case in cases]
    if not cases:
        raise ManifestError(f"{path}: found 0 cases to write; nothing was written")
    checked = []
    for number, case in enumerate(cases, start=1):
        try:
            checked.append(_case(case, paths))
        except ManifestError as error:
            raise ManifestError(f"{path}, case {number}: {error}") from None
    _check_cases(checked, path)
    lines = [json.dumps(case, ensure_ascii=False) + "\n" for case in cases]
    try:
        data = "".join(lines).encode("utf-8")
    except UnicodeEncodeError as error:
        text = error.object[max(0, error.start - 40) : error.end + 20]
        raise ManifestError(f"{path}: {text!r} is not UTF-8 text; rename the file") from None
    files.write_bytes(path, data)
    return len(cases)


def _case(raw: Any, paths: ManifestPaths) -> Case:
    """Check one case and add the missing keys."""
    check_type(raw, dict, "the line", "an object with the keys of a case")
    missing = [key for key in REQUIRED if key not in raw]
    if missing:
        raise ManifestError(f"missing key {missing[0]!r}; required keys: {', '.join(REQUIRED)}")
    unknown = sorted(set(raw) - set(REQUIRED) - set(OPTIONAL))
    if unknown:
        raise ManifestError(
            f"unknown key {unknown[0]!r}; known keys: {', '.join(REQUIRED + OPTIONAL)}; put other data into 'extra'"
        )
    for key in ("case_id", "patient_id", "split"):
        if not check_type(raw[key], str, key, "a text"):
            raise ManifestError(f"{key}: found an empty text")
    report = check_type(raw.get("report") or {}, dict, "report", "an object of texts")
    report = {key: check_text(text, f"report.{key}") for key, text in report.items()}
    labels = check_type(raw.get("labels") or {}, dict, "labels", "an object of name: 0, 1 or null")
    for name, value in labels.items():
        if value not in (0, 1, None):
            raise ManifestError(f"labels.{name}: found {value!r}; expected 0, 1 or null")
    cot = check_type(raw.get("cot") or [], list, "cot", "a list of steps")
    masks = check_type(raw.get("lesion_masks") or [], list, "lesion_masks", "a list of masks")
    return {
        **{key: raw[key] for key in ("case_id", "patient_id", "split")},
        "volume": _volume(raw["volume"], paths),
        "region_map": _region_map(raw.get("region_map"), paths),
        "lesion_masks": [_lesion(mask, paths) for mask in masks],
        "report": {key: text for key, text in report.items() if not is_missing(text)},
        "cot": [_step(step, number) for number, step in enumerate(cot, start=1)],
        "labels": labels,
        "source": check_text(raw.get("source"), "source"),
        "extra": check_extra(raw.get("extra")),
    }


def _volume(raw: Any, paths: ManifestPaths) -> dict:
    raw = {"path": raw} if isinstance(raw, str) else check_type(raw, dict, "volume", "a path or an object with 'path'")
    return {**check_options(raw, "volume", VOLUME_OPTIONS), **paths.resolve(raw.get("path"), "volume")}


def _region_map(raw: Any, paths: ManifestPaths) -> dict | None:
    if raw is None:
        return None
    expected = "a path, or an object with 'path' or 'files'"
    raw = {"path": raw} if isinstance(raw, str) else check_type(raw, dict, "region_map", expected)
    out = check_options(raw, "region_map", MASK_OPTIONS, "source", "files")
    check_text(raw.get("source"), "region_map.source")
    if ("path" in raw) == ("files" in raw):
        raise ManifestError(f"region_map: found keys {sorted(raw)}; expected {expected}")
    if "path" in raw:
        return {**out, **paths.resolve(raw["path"], "region_map")}
    masks = check_type(raw["files"], dict, "region_map.files", "an object of class name: path")
    found = {name: paths.resolve(path, f"region_map.files.{name}") for name, path in masks.items()}
    # One option for all files, such as the keys of the object.
    anywhere = {"allow_outside": True} if any(len(mask) > 1 for mask in found.values()) else {}
    return {**out, "files": {name: mask["path"] for name, mask in found.items()}, **anywhere}


def _lesion(raw: Any, paths: ManifestPaths) -> dict:
    expected = "a path, or an object with 'path', 'id' and 'name'"
    raw = {"path": raw} if isinstance(raw, str) else check_type(raw, dict, "lesion mask", expected)
    out = check_options(raw, "lesion mask", MASK_OPTIONS, "id", "name")
    number = raw.get("id")
    if number is not None and not 1 <= check_type(number, int, "lesion id", "a number from 1 to 255") <= 255:
        raise ManifestError(f"lesion id: found {number}; expected 1..255")
    check_text(raw.get("name"), "lesion name")
    return {"id": None, "name": None, **out, **paths.resolve(raw.get("path"), "lesion mask")}


def _step(raw: Any, number: int) -> dict:
    where = f"cot step {number}"
    check_type(raw, dict, where, "an object with 'text'")
    lists = {key: check_texts(raw.get(key), f"{where}: {key}") for key in ("entities", "regions")}
    lesion = raw.get("lesion")
    if lesion is not None and not 0 <= check_type(lesion, int, f"{where}: lesion", "a lesion's id, or null") <= 255:
        raise ManifestError(f"{where}: lesion: found {lesion}; expected 1..255")
    text = check_type(raw.get("text"), str, f"{where}: text", "a text")
    position = raw.get("step")
    position = number if position is None else check_type(position, int, f"{where}: step", "a number")
    step = {"step": position, "text": text, **lists, "lesion": lesion}
    if "normal" in raw:
        step["normal"] = check_type(raw["normal"], bool, f"{where}: normal", "true or false")
    if raw.get("question"):
        step["question"] = check_type(raw["question"], str, f"{where}: question", "a text")
    if raw.get("stage"):
        expected = f"one of {', '.join(STAGES)}, or no stage"
        step["stage"] = check_type(raw["stage"], str, f"{where}: stage", expected)
        if step["stage"] not in STAGES:
            raise ManifestError(f"{where}: stage: found {step['stage'][:40]!r}; expected {expected}")
    return step


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


def _relative(case: Any, root: str) -> Any:
    """Make the absolute paths of a case relative to the folder of the manifest, and drop its reader's permission."""
    if not isinstance(case, dict):
        return case
    paths = {key: _relative_paths(case[key], root) for key in ("volume", "region_map", "lesion_masks") if key in case}
    return {**case, **paths}


def _relative_paths(value: Any, root: str) -> Any:
    if isinstance(value, str):
        return files.relative(value, root)
    if isinstance(value, list):
        return [_relative_paths(item, root) for item in value]
    if not isinstance(value, dict):
        return value
    out = {key: item for key, item in value.items() if key != "allow_outside"}
    if "path" in out:
        out["path"] = _relative_paths(out["path"], root)
    if isinstance(out.get("files"), dict):
        out["files"] = {name: _relative_paths(path, root) for name, path in out["files"].items()}
    return out
