"""Verification of a case on disk, by opening all files that training opens."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass

import numpy as np

from ctvlm.anatomy import DEFAULT_SCHEME, RegionScheme, UnknownLabelError, mention_lexicon
from ctvlm.datasets.training_text import NO_TEXT, text_source, with_steps
from ctvlm.datasets.transforms.load_ct import LoadCT, MaskWarning, RegionWarning
from ctvlm.volume import CTReadError, MaskMismatchError, files
from ctvlm.volume.checksums import without_checksums
from ctvlm.volume.store import SUFFIX

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True)
class Problem:
    """Problem of a case. ``kind`` is its category, ``level`` is error or warning, ``file`` may be empty."""

    kind: str
    level: str
    case_id: str
    file: str
    note: str


def verify_case(case: dict, scheme_name: str = DEFAULT_SCHEME, checksums: bool = True) -> list[Problem]:
    """Open a case (as returned by ``read_manifest``) as training does, and return its problems."""
    scheme = RegionScheme.load(scheme_name)
    problems: list[Problem] = []

    def add(kind: str, level: str, note: object, file: str = "") -> None:
        problems.append(Problem(kind, level, case["case_id"], file, str(note)))

    missing = [path for path in files_of(case) if not files.exists(path)]
    for path in missing:
        add("missing file", ERROR, "file not found", path)
    damaged = False
    if checksums and not missing and case["volume"]["path"].lower().endswith(SUFFIX):
        for path, note in _checksum_problems(case["volume"]["path"]):
            add("checksum", ERROR, note, path)
            damaged = True
    # A damaged file is listed once; reading compares it again.
    with without_checksums(damaged or not checksums):
        results = None if missing else _load(case, scheme_name, add)
    _check_text(case, results, scheme, add)
    return problems


def files_of(case: dict) -> list[str]:
    """Return all files of a case."""
    region_map = case["region_map"] or {}
    masks = [region_map["path"]] if "path" in region_map else list(region_map.get("files", {}).values())
    return list(dict.fromkeys([case["volume"]["path"], *masks, *(m["path"] for m in case["lesion_masks"])]))


def _load(case: dict, scheme_name: str, add) -> dict | None:
    """Load a case and check its arrays; returns None if it cannot be loaded."""
    results = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            results = LoadCT()({**case, "scheme": scheme_name})
        except CTReadError as error:
            add("unreadable or not HU", ERROR, error, error.path)
        except MaskMismatchError as error:
            add("mask outside CT", ERROR, error)
        except UnknownLabelError as error:
            add("unknown labels", ERROR, error)
        except (OSError, ImportError, ValueError) as error:
            add("cannot be opened", ERROR, error)
    for warning in caught:
        if issubclass(warning.category, RegionWarning):
            add("implausible region", WARNING, warning.message)
        elif issubclass(warning.category, MaskWarning):
            add("doubtful mask", WARNING, warning.message)
        elif issubclass(warning.category, UserWarning):
            add("doubtful file", WARNING, warning.message)
    if results is None:
        return None
    depth = min(results["volume"].shape)
    if depth < 8:
        add("thin stack", WARNING, f"shape {results['volume'].shape}", case["volume"]["path"])
    lesion_ids = {step["lesion"] for step in case["cot"] if step.get("lesion") is not None}
    present = set() if results["lesion_map"] is None else set(np.unique(results["lesion_map"]).tolist())
    for lesion in sorted(lesion_ids - present):
        add("lesion without mask", ERROR, f"a step refers to lesion {lesion}, which has no voxel")
    return results


def _check_text(case: dict, results: dict | None, scheme: RegionScheme, add) -> None:
    for number, step in enumerate(case["cot"], start=1):
        unknown = [name for name in step["regions"] if name not in scheme.names]
        if unknown:
            add(
                "unknown region name", ERROR, f"step {number}: found {unknown[0]!r}; expected a region of {scheme.name}"
            )
        if not step["text"].strip():
            add("empty text", ERROR, f"step {number} has no text")
    # A case with masks needs no text, because MeasuredReasoning can describe it.
    if text_source(case) == NO_TEXT and not case["region_map"] and not case["lesion_masks"]:
        add("no text", WARNING, "no report, no reasoning steps, and no mask for MeasuredReasoning")
    region_map = None if results is None else results["region_map"]
    if region_map is None:
        return
    visible = set(np.flatnonzero(np.bincount(region_map.ravel())).tolist()) - {0}
    texts = [step["text"] for step in with_steps(case, scheme.reference)["cot"]]
    mentioned = {i for text in texts for i in mention_lexicon(scheme.reference).regions_in(text)}
    if mentioned and not mentioned & visible:
        names = ", ".join(scheme.name_of(i) for i in sorted(mentioned)[:4])
        add("text does not match region map", WARNING, f"no region of the text ({names}) is in the region map")


def _checksum_problems(volume: str) -> list[tuple[str, str]]:
    """Compare the stored files with the checksums in ``case.json``."""
    folder = files.parent(volume)
    name = files.join(folder, "case.json")
    try:
        record = json.loads(files.read_bytes(name))
        arrays = record["arrays"].values()
    except FileNotFoundError:
        return [(name, "case.json not found: the case is incomplete")]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        return [(name, f"invalid record ({error!r})")]
    out = []
    for entry in arrays:
        path = files.join(folder, entry["file"])
        if not files.exists(path):
            out.append((path, "file not found"))
        elif hashlib.sha256(files.read_bytes(path)).hexdigest() != entry["sha256"]:
            out.append((path, "checksum mismatch: delete the folder of the case and preprocess it again"))
    return out
