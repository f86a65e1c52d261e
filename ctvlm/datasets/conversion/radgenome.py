"""Conversion of RadGenome-ChestCT: sentences with anatomy and region masks for the first CT-RATE reconstructions."""

from __future__ import annotations

from pathlib import Path

from ctvlm.anatomy import MentionLexicon, UnknownLabelError
from ctvlm.datasets.conversion.case_list import CaseList, ConversionError, DropCase
from ctvlm.datasets.conversion.ct_rate import CTRate
from ctvlm.datasets.conversion.ct_rate_files import parse_name
from ctvlm.datasets.conversion.tables import read_csv
from ctvlm.datasets.conversion.text import clean, number_steps, text_steps
from ctvlm.utils import natural_key

REPORTS, VQA = "*region_report*.csv", "*vqa*.csv"


def regions_of_anatomy(path: str, lexicon: MentionLexicon) -> set[int]:
    """Return the region ids of an anatomy such as "lung/lung/right lung", from its last known part.

    "" (the whole scan) and anatomies outside the scheme ("pleura") have no regions.
    """
    for part in reversed([p.strip() for p in path.split("/") if p.strip()]):
        try:
            ids = set(lexicon.scheme.ids_of_class(part))
        except UnknownLabelError:
            ids = set(lexicon.regions_in(part))
        if ids:
            return ids
    return set()


def leaves(paths: list[str]) -> list[str]:
    """Remove anatomies that are parents of others: "lung" is redundant if "lung/lung/left lung" is in the list."""
    clean_paths = {p.strip().strip("/") for p in paths if p.strip()}
    return sorted(p for p in clean_paths if not any(q.startswith(f"{p}/") for q in clean_paths))


def sentence_steps(rows: list[dict[str, str]], entities: list[str], lexicon: MentionLexicon) -> list[dict]:
    """Return one step per sentence, in row order. A sentence with several anatomies gets the regions of all."""
    anatomies: dict[str, list[str]] = {}
    for row in rows:
        if text := clean(row["Sentence"]):
            anatomies.setdefault(text, []).append(row["Anatomy"] or "")
    steps = []
    for text, paths in anatomies.items():
        known = {r for path in leaves(paths) for r in regions_of_anatomy(path, lexicon)}
        # The rows are already split: one row is one step, even if it contains several sentences.
        parts = text_steps(text, lexicon, within=sorted(known) if known else None, entities=entities)
        if not parts:
            continue
        regions = sorted({region for part in parts for region in part["regions"]}, key=lexicon.scheme.id_of)
        step_entities = list(dict.fromkeys(entity for part in parts for entity in part["entities"]))
        steps.append({**parts[0], "text": text, "regions": regions, "entities": step_entities})
    return number_steps(steps)


def find_tables(root: Path, pattern: str) -> list[Path]:
    """Find files at most two folders deep; a full search over millions of masks would take hours."""
    return sorted({path for above in ("", "*/", "*/*/") for path in root.glob(above + pattern)})


def find_masks(root: Path) -> dict[str, Path]:
    """Find the folders ``seg_<volume>``, at most two folders deep, by volume."""
    folders = (path for path in find_tables(root, "seg_*") if path.is_dir())
    named = ((parse_name(path.name), path) for path in folders)
    return {name.volume: path for name, path in named if name}


def region_files(folder: Path, lexicon: MentionLexicon) -> tuple[dict[str, str], list[str]]:
    """Return the mask files by region name, and the names that the scheme does not contain."""
    files: dict[str, str] = {}
    unknown = []
    for path in sorted(p for p in folder.iterdir() if p.name.lower().endswith(".nii.gz")):
        name = path.name[: -len(".nii.gz")]
        try:
            lexicon.scheme.ids_of_class(name)
        except UnknownLabelError:
            unknown.append(name)
        else:
            files[name] = str(path)
    return files, unknown


def _rows_by_volume(tables: list[Path], needs: tuple[str, ...], listed: CaseList) -> dict[str, list[dict]]:
    rows: dict[str, list[dict]] = {}
    for path in tables:
        table = read_csv(path, needs)
        listed.notes += table.notes
        for row in table.rows:
            name = parse_name(row["Volumename"])
            rows.setdefault(name.volume if name else row["Volumename"], []).append(row)
    return rows


def radgenome_cases(root: Path, data: CTRate) -> CaseList:
    """List every volume on disk that has region reports.

    Raises:
        ConversionError: no region report, or no match with a volume on disk.
    """
    root = Path(root).absolute()
    tables = find_tables(root, REPORTS)
    if not tables:
        raise ConversionError(
            f"{root}: found no {REPORTS}; expected train_region_report.csv, validation_region_report.csv"
        )
    listed = CaseList(notes=list(data.notes))
    unknown: set[str] = set()
    rows = _rows_by_volume(tables, ("Volumename", "Anatomy", "Sentence"), listed)
    questions = _rows_by_volume(find_tables(root, VQA), ("Volumename", "Anatomy", "Abnormality"), listed)
    masks = find_masks(root)
    if not set(rows) & set(data.volumes):
        raise ConversionError(
            f"none of the {len(rows)} volumes of the region reports is among the {len(data.volumes)} volumes under "
            f"{data.root}; reports have names such as {next(iter(rows))!r}, volumes {next(iter(data.volumes))!r}"
        )
    for volume in sorted(rows, key=natural_key):
        try:
            if volume not in data.volumes:
                raise DropCase("in the region reports, but not on disk")
            case = data.case(volume)
        except DropCase as reason:
            listed.dropped.append((volume, str(reason)))
            continue
        vqa = [{k.lower(): v for k, v in row.items() if k != "Volumename" and v} for row in questions.get(volume, [])]
        entities = list(dict.fromkeys(w.strip() for q in vqa for w in (q.get("abnormality") or "").split(",")))
        steps = sentence_steps(rows[volume], [e for e in entities if e], data.lexicon)
        if volume in masks:
            files, others = region_files(masks[volume], data.lexicon)
            unknown.update(others)
            if files:
                case["region_map"] = dict(files=files)
        report = case["report"]
        report.setdefault("findings", " ".join(step["text"] for step in steps))
        extra = {**case["extra"], **({"vqa": vqa} if vqa else {})}
        listed.cases.append({**case, "cot": steps, "report": report, "source": "RadGenome-ChestCT", "extra": extra})
    if unknown:
        listed.notes.append(f"masks of regions outside the scheme are ignored: {', '.join(sorted(unknown))}")
    if not masks:
        listed.notes.append(f"{root}: found no seg_<volume> folder; using the region maps of CT-RATE, if any")
    return listed
