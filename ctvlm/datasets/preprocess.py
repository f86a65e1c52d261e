"""Preprocessing of a manifest case into a store, used by ``tools/preprocess.py``.

Files of a store::

    OUT/manifest.jsonl                      manifest of the files below
    OUT/cases/<case>/volume.b2nd            HU, int16
    OUT/cases/<case>/region_map.b2nd        region ids of the scheme, uint8 (optional)
    OUT/cases/<case>/lesion_map.b2nd        lesion ids, uint8 (optional)
    OUT/cases/<case>/case.json              recipe, source files, checksums, geometry, and the manifest line
    OUT/cases/<case>/failed.json            instead of case.json: the reason why the case is not in the manifest

``case.json`` is written last, so a case of an interrupted run is never considered complete. A case is kept if its
manifest line, recipe and source files are those of ``case.json``, and its arrays have the checksums recorded there.
"""

from __future__ import annotations

import json
import traceback
import warnings
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import quote

import numpy as np

from ctvlm.anatomy import DEFAULT_SCHEME, RegionScheme, scheme_of
from ctvlm.datasets.measured_reasoning import MeasuredReasoning
from ctvlm.datasets.source_state import State, is_unchanged, source_state
from ctvlm.datasets.training_text import MEASURED, NO_TEXT, text_source
from ctvlm.datasets.transforms.load_ct import LoadCT
from ctvlm.datasets.transforms.resample_ct import ResampleCT
from ctvlm.utils import CTVLMError, MissingPackageError
from ctvlm.utils.code_version import code_version
from ctvlm.volume import CTVolume, files
from ctvlm.volume.checksums import record_checksum, sha256_of
from ctvlm.volume.store import SUFFIX, encode

# Increment when the result of a recipe changes, so that existing cases are processed again.
FORMAT = 1
ARRAYS = ("volume", "region_map", "lesion_map")


@dataclass(frozen=True)
class Recipe:
    """Parameters of preprocessing. ``shape`` is (D, H, W), ``spacing`` is in mm (z, y, x): see ResampleCT."""

    shape: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    crop_to_body: bool = True
    scheme: str = DEFAULT_SCHEME
    measure_text: bool = False
    level: int = 5
    format: int = FORMAT

    def as_dict(self) -> dict:
        """Return the recipe as parsed from JSON, for comparison."""
        return json.loads(json.dumps(asdict(self)))


@dataclass(frozen=True)
class Outcome:
    """Result of a case; ``state`` is done, kept (already present) or failed."""

    case_id: str
    state: str
    note: str = ""
    stored_bytes: int = 0


def folder_of(out: str, case_id: str) -> str:
    """Return the folder of a case; ids may contain any characters and have any length."""
    name = quote(case_id, safe=" ,()+")
    if len(name) > 120 or name.strip(". ") != name:
        name = f"{name[:100].strip('. ')}-{sha256(case_id.encode()).hexdigest()[:12]}"
    return files.join(out, "cases", name)


def fingerprint(case: dict, recipe: Recipe) -> str:
    """Return a hash of the recipe and of the manifest line, which identifies outdated cases."""
    # The content of the scheme, so that an edited file changes the hash.
    parameters = {**recipe.as_dict(), "scheme": RegionScheme.load(recipe.scheme).fingerprint}
    text = json.dumps([case, parameters], sort_keys=True, ensure_ascii=False)
    return sha256(text.encode()).hexdigest()


def read_record(out: str, case_id: str, name: str = "case.json") -> dict | None:
    """Read ``case.json`` or ``failed.json`` of a case; None if it is missing, incomplete or changed."""
    try:
        record = json.loads(files.read_bytes(files.join(folder_of(out, case_id), name)))
        return record if record["checksum"] == record_checksum(record) else None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, RecursionError):
        return None


def is_current(
    record: dict | None, case: dict, recipe: Recipe, sources: State | None = None, content: bool = False
) -> bool:
    """Whether a record is of this case, recipe and source files.

    Args:
        sources: ``source_state`` of the case if it is known.
        content: compare the source files by SHA-256.
    """
    if record is None or record["fingerprint"] != fingerprint(case, recipe):
        return False
    return is_unchanged(record["sources"], source_state(case, content) if sources is None else sources, content)


def damaged_files(out: str, record: dict, content: bool = True) -> list[str]:
    """Names of the stored arrays of a case that differ from its record; without ``content`` by size only."""
    folder = folder_of(out, record["case_id"])
    damaged = []
    for entry in record["arrays"].values():
        path = files.join(folder, entry["file"])
        if files.size(path) != entry["bytes"]:
            damaged.append(entry["file"])
        elif content:
            found = sha256(files.read_bytes(path)).hexdigest() if files.is_url(path) else sha256_of(files.local(path))
            damaged += [entry["file"]] if found != entry["sha256"] else []
    return damaged


def preprocess_case(case: dict, out: str, recipe: Recipe, compare_content: bool = False) -> Outcome:
    """Store one case (as returned by ``read_manifest``) under ``out``, unless an up-to-date, undamaged result exists.

    A case that cannot be read gives a failed outcome instead of an exception.

    Args:
        compare_content: compare source files by SHA-256 instead of size and time of change.

    Raises:
        MissingPackageError: a reader is not installed.
        OSError: the results cannot be written.
    """
    folder = folder_of(out, case["case_id"])
    record = read_record(out, case["case_id"])
    notes: list[str] = []
    # Before the files are read, so that a file that changes now is noticed by the next run.
    sources = source_state(case, compare_content)
    if record and is_current(record, case, recipe, sources, compare_content):
        damaged = damaged_files(out, record)
        if not damaged:
            _update_sources(record, sources, folder)
            return Outcome(case["case_id"], "kept", stored_bytes=record["stored_bytes"])
        notes.append(f"{', '.join(damaged)} was missing or damaged, and was written again")
    files.remove_parts(folder)
    identity = dict(
        case_id=case["case_id"], fingerprint=fingerprint(case, recipe), sources=sources, ctvlm=code_version()
    )
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            results = _load(case, recipe)
        notes += [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    except MissingPackageError:
        raise
    except Exception as error:  # one case must not end the run
        expected = isinstance(error, (CTVLMError, ValueError, OSError))
        reason = str(error) if expected and str(error) else f"{type(error).__name__}: {error}"
        details = {} if expected else dict(traceback=traceback.format_exc())
        files.remove(files.join(folder, "case.json"))
        files.write_bytes(files.join(folder, "failed.json"), _json({**identity, "reason": reason, **details}))
        return Outcome(case["case_id"], "failed", reason)
    record = _write(results, case, folder, recipe, identity)
    files.remove(files.join(folder, "failed.json"))
    return Outcome(case["case_id"], "done", "; ".join(notes), record["stored_bytes"])


def _update_sources(record: dict, sources: State, folder: str) -> None:
    """Record the times of files that have the same content, so that they are compared without reading them."""
    if not is_unchanged(record["sources"], sources):
        files.write_bytes(files.join(folder, "case.json"), _json({**record, "sources": sources}))


def _load(case: dict, recipe: Recipe) -> dict:
    results = LoadCT()({**case, "scheme": recipe.scheme})
    if recipe.measure_text:
        results = MeasuredReasoning()(results)
    if recipe.shape or recipe.spacing or recipe.crop_to_body:
        results = ResampleCT(recipe.shape, recipe.spacing, recipe.crop_to_body)(results)
    hu = results["volume"]
    if hu.dtype != np.int16:
        limits = np.iinfo(np.int16)
        results["volume"] = np.rint(hu).clip(limits.min, limits.max).astype(np.int16)
    return results


def _write(results: dict, case: dict, folder: str, recipe: Recipe, identity: dict) -> dict:
    arrays: dict[str, dict[str, Any]] = {}
    contents: dict[str, bytes] = {}
    for key in ARRAYS:
        name = f"{key}{SUFFIX}"
        array = results.get(key)
        if array is None or (key != "volume" and not array.any()):
            continue
        contents[name] = data = encode(CTVolume(array, results["affine"]), recipe.level)
        arrays[key] = dict(file=name, sha256=sha256(data).hexdigest(), bytes=len(data), dtype=str(array.dtype))
    record = dict(
        **identity,
        recipe=recipe.as_dict(),
        shape=list(results["volume"].shape),
        spacing=list(results["spacing"]),
        affine=[[float(x) for x in row] for row in results["affine"]],
        arrays=arrays,
        stored_bytes=sum(a["bytes"] for a in arrays.values()),
        from_volume=case["volume"]["path"],
        line=_line(results, case, folder, arrays),
    )
    files.write_together(folder, {**contents, "case.json": _json(record)}, last="case.json")
    for name in {f"{key}{SUFFIX}" for key in ARRAYS} - contents.keys():
        files.remove(files.join(folder, name))
    return record


def _line(results: dict, case: dict, folder: str, arrays: dict) -> dict:
    """Return the manifest line of a case, with paths relative to the folder of ``case.json``."""
    line = {key: case[key] for key in ("case_id", "patient_id", "split", "labels", "source", "extra")}
    line.update(report=results.get("report") or {}, cot=results.get("cot") or [])
    if text_source(case) == NO_TEXT and text_source(line) != NO_TEXT:
        line["extra"] = {**line["extra"], "text_origin": MEASURED}
    if results.get("region_kept"):
        line["extra"] = {**line["extra"], "region_kept": results["region_kept"]}
    line["volume"] = {"path": arrays["volume"]["file"]}
    line["region_map"] = None
    if "region_map" in arrays:
        line["region_map"] = {"path": arrays["region_map"]["file"], "source": scheme_of(results).source_id}
    line["lesion_masks"] = []
    if "lesion_map" in arrays:
        path = arrays["lesion_map"]["file"]
        present = set(np.unique(results["lesion_map"]).tolist()) - {0}
        names = {m["id"]: m.get("name") for m in case["lesion_masks"] if m.get("id") is not None}
        # One label map for all lesions; 'key' selects one lesion, which preserves ids and names.
        line["lesion_masks"] = [dict(path=path, key=str(i), id=i, name=names.get(i)) for i in sorted(present)]
    return line


def manifest_line(out: str, record: dict) -> dict:
    """Return the manifest line of a stored case with absolute paths, for ``write_manifest``."""
    folder = folder_of(out, record["case_id"])
    line = dict(record["line"])
    for key in ("volume", "region_map"):
        if line[key]:
            line[key] = {**line[key], "path": files.join(folder, line[key]["path"])}
    line["lesion_masks"] = [{**m, "path": files.join(folder, m["path"])} for m in line["lesion_masks"]]
    return line


def _json(record: dict) -> bytes:
    # Measured text may contain NumPy numbers.
    record = json.loads(json.dumps(record, default=lambda value: value.item()))
    record["checksum"] = record_checksum(record)
    return (json.dumps(record, ensure_ascii=False, indent=1) + "\n").encode()
