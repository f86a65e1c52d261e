"""What is wrong with a case on disk: found by opening everything that training would open."""

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
from ctvlm.volume.store import SUFFIX

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a case. ``kind`` groups them, ``level`` is error or warning, ``file`` may be empty."""

    kind: str
    level: str
    case_id: str
    file: str
    note: str


def verify_case(case: dict, scheme_name: str = DEFAULT_SCHEME, checksums: bool = True) -> list[Problem]:
    """Open a case (as ``read_manifest`` returns it) as training will; an empty list is a good case."""
    scheme = RegionScheme.load(scheme_name)
    found: list[Problem] = []

    def say(kind: str, level: str, note: object, file: str = "") -> None:
        found.append(Problem(kind, level, case["case_id"], file, str(note)))

    missing = [path for path in files_of(case) if not files.exists(path)]
    for path in missing:
        say("missing file", ERROR, "no such file", path)
    if checksums and not missing and case["volume"]["path"].lower().endswith(SUFFIX):
        for path, note in _checksum_problems(case["volume"]["path"]):
            say("checksum", ERROR, note, path)
    results = None if missing else _opened(case, scheme_name, say)
    _check_text(case, results, scheme, say)
    return found


def files_of(case: dict) -> list[str]:
    """Every file that a case names."""
    region_map = case["region_map"] or {}
    masks = [region_map["path"]] if "path" in region_map else list(region_map.get("files", {}).values())
    return list(dict.fromkeys([case["volume"]["path"], *masks, *(m["path"] for m in case["lesion_masks"])]))


def _opened(case: dict, scheme_name: str, say) -> dict | None:
    """The loaded case, or None; all that can be said against its arrays."""
    results = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            results = LoadCT()({**case, "scheme": scheme_name})
        except CTReadError as error:
            say("unreadable or not HU", ERROR, error, error.path)
        except MaskMismatchError as error:
            say("mask elsewhere", ERROR, error)
        except UnknownLabelError as error:
            say("unknown labels", ERROR, error)
        except (OSError, ImportError, ValueError) as error:
            say("cannot be opened", ERROR, error)
    for warning in caught:
        if issubclass(warning.category, RegionWarning):
            say("implausible region", WARNING, warning.message)
        elif issubclass(warning.category, MaskWarning):
            say("mask empty or cut off", WARNING, warning.message)
        elif issubclass(warning.category, UserWarning):
            say("doubtful file", WARNING, warning.message)
    if results is None:
        return None
    depth = min(results["volume"].shape)
    if depth < 8:
        say("thin stack", WARNING, f"shape {results['volume'].shape}", case["volume"]["path"])
    wanted = {step["lesion"] for step in case["cot"] if step.get("lesion") is not None}
    there = set() if results["lesion_map"] is None else set(np.unique(results["lesion_map"]).tolist())
    for lesion in sorted(wanted - there):
        say("lesion without mask", ERROR, f"a step points at lesion {lesion}, which marks no voxel")
    return results


def _check_text(case: dict, results: dict | None, scheme: RegionScheme, say) -> None:
    for number, step in enumerate(case["cot"], start=1):
        unknown = [name for name in step["regions"] if name not in scheme.names]
        if unknown:
            say("unknown region name", ERROR, f"step {number} names {unknown[0]!r}, not in {scheme.name}")
        if not step["text"].strip():
            say("empty text", ERROR, f"step {number} has no text")
    # Masks can be measured, so that a case without text is no fault (see MeasuredReasoning).
    if text_source(case) == NO_TEXT and not case["region_map"] and not case["lesion_masks"]:
        say("no text", WARNING, "no report, no reasoning steps, and no mask that MeasuredReasoning could measure")
    region_map = None if results is None else results["region_map"]
    if region_map is None:
        return
    seen = set(np.flatnonzero(np.bincount(region_map.ravel())).tolist()) - {0}
    texts = [step["text"] for step in with_steps(case, scheme.reference)["cot"]]
    mentioned = {i for text in texts for i in mention_lexicon(scheme.reference).regions_in(text)}
    if mentioned and not mentioned & seen:
        names = ", ".join(scheme.name_of(i) for i in sorted(mentioned)[:4])
        say("text of another scan?", WARNING, f"none of the regions in the text ({names}) is in the region map")


def _checksum_problems(volume: str) -> list[tuple[str, str]]:
    """Stored files against the record beside them."""
    folder = files.parent(volume)
    name = files.join(folder, "case.json")
    try:
        record = json.loads(files.read_bytes(name))
        arrays = record["arrays"].values()
    except FileNotFoundError:
        return [(name, "no record beside the stored volume: the case was not finished")]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        return [(name, f"not a case's record ({error!r})")]
    out = []
    for entry in arrays:
        path = files.join(folder, entry["file"])
        if not files.exists(path):
            out.append((path, "recorded, but not there"))
        elif hashlib.sha256(files.read_bytes(path)).hexdigest() != entry["sha256"]:
            out.append((path, "the content is not what was written: delete the case's folder and preprocess it again"))
    return out
