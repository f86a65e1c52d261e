"""RadGenome-ChestCT: sentences with their anatomy, and masks by region name, on CT-RATE's first reconstructions."""

from __future__ import annotations

from pathlib import Path

from ctvlm.anatomy import MentionLexicon, UnknownLabelError
from ctvlm.datasets.conversion.case_list import CaseList, ConversionError, DropCase
from ctvlm.datasets.conversion.ct_rate import CTRate
from ctvlm.datasets.conversion.ct_rate_files import parse_name
from ctvlm.datasets.conversion.tables import read_csv
from ctvlm.datasets.conversion.text import clean, number, text_steps
from ctvlm.utils import natural_key

REPORTS, VQA = "*region_report*.csv", "*vqa*.csv"


def regions_of_anatomy(path: str, lexicon: MentionLexicon) -> set[int]:
    """Ids of the regions that an anatomy such as "lung/lung/right lung" covers; its last word that is known decides.

    "" (the whole scan) and anatomies outside the scheme ("pleura") cover none.
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
    """Without anatomies that contain another one of the list: "lung" says nothing beside "lung/lung/left lung"."""
    clean_paths = {p.strip().strip("/") for p in paths if p.strip()}
    return sorted(p for p in clean_paths if not any(q.startswith(f"{p}/") for q in clean_paths))


def sentence_steps(rows: list[dict[str, str]], entities: list[str], lexicon: MentionLexicon) -> list[dict]:
    """One step a sentence, in the order of the rows; a sentence that stands under several anatomies is about all."""
    anatomies: dict[str, list[str]] = {}
    for row in rows:
        if text := clean(row["Sentence"]):
            anatomies.setdefault(text, []).append(row["Anatomy"] or "")
    steps = []
    for text, paths in anatomies.items():
        known = set().union(*(regions_of_anatomy(path, lexicon) for path in leaves(paths)))
        # Sentences come split already: one row is one step, whatever full stops are in it.
        (first, *more) = text_steps(text, lexicon, within=sorted(known) if known else None, entities=entities) or [None]
        if first is None:
            continue
        regions = sorted({r for s in (first, *more) for r in s["regions"]}, key=lexicon.scheme.id_of)
        found = list(dict.fromkeys(e for s in (first, *more) for e in s["entities"]))
        steps.append({**first, "text": text, "regions": regions, "entities": found})
    return number(steps)


def find_tables(root: Path, pattern: str) -> list[Path]:
    """Files at most two folders down: a walk over millions of masks would take hours."""
    return sorted({path for above in ("", "*/", "*/*/") for path in root.glob(above + pattern)})


def find_masks(root: Path) -> dict[str, Path]:
    """Folders ``seg_<volume>``, at most two folders down, by volume."""
    folders = (path for path in find_tables(root, "seg_*") if path.is_dir())
    named = ((parse_name(path.name), path) for path in folders)
    return {name.volume: path for name, path in named if name}


def region_files(folder: Path, lexicon: MentionLexicon) -> tuple[dict[str, str], list[str]]:
    """Mask files by region name, and the names that no scheme knows."""
    files, unknown = {}, []
    for path in sorted(p for p in folder.iterdir() if p.name.lower().endswith(".nii.gz")):
        name = path.name[: -len(".nii.gz")]
        try:
            lexicon.scheme.ids_of_class(name)
        except UnknownLabelError:
            unknown.append(name)
        else:
            files[name] = str(path)
    return files, unknown


def _rows_by_volume(tables: list[Path], needs: tuple[str, ...], found: CaseList) -> dict[str, list[dict]]:
    rows: dict[str, list[dict]] = {}
    for path in tables:
        table = read_csv(path, needs)
        found.notes += table.notes
        for row in table.rows:
            name = parse_name(row["Volumename"])
            rows.setdefault(name.volume if name else row["Volumename"], []).append(row)
    return rows


def radgenome_cases(root: Path, data: CTRate) -> CaseList:
    """Every volume of the region reports that is on disk.

    Raises:
        ConversionError: no region report, or none of a volume on disk.
    """
    root = Path(root).absolute()
    tables = find_tables(root, REPORTS)
    if not tables:
        raise ConversionError(
            f"{root}: no {REPORTS} found; expected train_region_report.csv, validation_region_report.csv"
        )
    found, unknown = CaseList(notes=list(data.notes)), set()
    rows = _rows_by_volume(tables, ("Volumename", "Anatomy", "Sentence"), found)
    questions = _rows_by_volume(find_tables(root, VQA), ("Volumename", "Anatomy", "Abnormality"), found)
    masks = find_masks(root)
    if not set(rows) & set(data.volumes):
        raise ConversionError(
            f"none of the {len(rows)} volumes of the region reports is among the {len(data.volumes)} under "
            f"{data.root}: reports name {next(iter(rows))!r}, volumes are named like {next(iter(data.volumes))!r}"
        )
    for volume in sorted(rows, key=natural_key):
        try:
            if volume not in data.volumes:
                raise DropCase("in the region reports, but its volume is not on disk")
            case = data.case(volume)
        except DropCase as reason:
            found.dropped.append((volume, str(reason)))
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
        found.cases.append({**case, "cot": steps, "report": report, "source": "RadGenome-ChestCT", "extra": extra})
    if unknown:
        found.notes.append(f"masks of regions that the scheme does not know are left out: {', '.join(sorted(unknown))}")
    if not masks:
        found.notes.append(f"no seg_<volume> folder under {root}: region maps are CT-RATE's, where there are any")
    return found
