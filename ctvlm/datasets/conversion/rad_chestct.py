"""Rad-ChestCT: volumes and labels by abnormality and location; the data set publishes no report text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ctvlm.datasets.conversion.case_list import CaseList, ConversionError
from ctvlm.datasets.conversion.tables import find_conflicting_keys, read_csv
from ctvlm.utils import natural_key

# Of every volume (Draelos et al. 2021); the files do not state it. Axes in array order.
GEOMETRY = dict(spacing=[0.8, 0.8, 0.8], axes="IPL")
ID = "NoteAcc_DEID"
TABLES = {"train": "imgtrain*.csv", "val": "imgvalid*.csv", "test": "imgtest*.csv"}
Rules = dict[str, tuple[tuple[str, tuple[str, ...]], ...]]
# CT-RATE's 18 from Rad-ChestCT's columns "<abnormality>*<location>", at any location unless some are named. There is no
# mosaic attenuation pattern: unknown, not absent. "ours" reads locations: "hernia" is hiatal where it lies at
# oesophagus or stomach.
OURS: Rules = {
    "Medical material": tuple(
        (name, ())
        for name in (
            "catheter_or_port", "chest_tube", "clip", "gi_tube", "hardware", "heart_valve_replacement",
            "pacemaker_or_defib", "staple", "stent", "suture", "tracheal_tube",
        )
    ),
    "Arterial wall calcification": (("calcification", ("aorta",)), ("atherosclerosis", ("aorta",))),
    "Cardiomegaly": (("cardiomegaly", ()),),
    "Pericardial effusion": (("pericardial_effusion", ()),),
    "Coronary artery wall calcification": (("coronary_artery_disease", ()),),
    "Hiatal hernia": (("hernia", ("esophagus", "stomach")),),
    "Lymphadenopathy": (("lymphadenopathy", ()),),
    "Emphysema": (("emphysema", ()),),
    "Atelectasis": (("atelectasis", ()),),
    "Lung nodule": (("nodule", ()), ("nodulegr1cm", ())),
    "Lung opacity": (("opacity", ()), ("groundglass", ())),
    "Pulmonary fibrotic sequela": (("scarring", ()),),
    "Pleural effusion": (("pleural_effusion", ()),),
    "Mosaic attenuation pattern": (),
    "Peribronchial thickening": (("bronchial_wall_thickening", ()),),
    "Consolidation": (("consolidation", ()),),
    "Bronchiectasis": (("bronchiectasis", ()),),
    "Interlobular septal thickening": (("septal_thickening", ()),),
}  # fmt: skip


# The fold behind all published figures (RadFinder's "standard" fold, also HLIP's): any calcification counts as arterial
# and as coronary, any hernia as hiatal; ground glass is no opacity; breast implants are medical material, valves not.
LITERATURE: Rules = {
    **OURS,
    "Medical material": tuple(
        (name, ())
        for name in (
            "breast_implant", "catheter_or_port", "chest_tube", "clip", "gi_tube", "hardware", "pacemaker_or_defib",
            "staple", "stent", "suture", "tracheal_tube",
        )
    ),
    "Arterial wall calcification": (("calcification", ()),),
    "Coronary artery wall calcification": (("calcification", ()),),
    "Hiatal hernia": (("hernia", ()),),
    "Lung opacity": (("opacity", ()),),
}  # fmt: skip
LABEL_MAPS: dict[str, Rules] = {"literature": LITERATURE, "ours": OURS}


def fold_columns(columns: Iterable[str], label_map: str = "literature") -> dict[str, list[str]]:
    """The columns that stand for each of CT-RATE's labels; none where the table does not have the abnormality."""
    split = [(c, *c.split("*", 1)) for c in columns if "*" in c]
    return {
        label: [c for c, found, where in split for name, places in rules if found == name and _at(where, places)]
        for label, rules in LABEL_MAPS[label_map].items()
    }


def _at(location: str, places: tuple[str, ...]) -> bool:
    return not places or location in places


def labels_of(row: dict[str, str], columns: dict[str, list[str]]) -> dict[str, int | None]:
    """1 where one column is set, 0 where all are 0, None where the table cannot tell."""
    out: dict[str, int | None] = {}
    for label, names in columns.items():
        values = [float(row[n]) for n in names if (row[n] or "").strip()]
        out[label] = None if not values else int(any(v > 0 for v in values))
    return out


def rad_chestct_cases(root: Path, label_map: str = "literature") -> CaseList:
    """Every volume that has a row in one of the three tables, in the split of its table.

    Args:
        label_map: how the columns are folded into CT-RATE's labels, see ``LABEL_MAPS``; recorded in each case's
            ``extra.labels_source``.

    Raises:
        ConversionError: no table, no volume, or no row of a volume on disk.
    """
    root = Path(root).absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; expected Rad-ChestCT's volumes and tables")
    tables = [(split, path) for split, pattern in TABLES.items() for path in sorted(root.rglob(pattern))]
    tables = [(s, p) for s, p in tables if "Abnormality" in p.name]
    files = {path.stem: path for path in sorted(root.rglob("*")) if path.suffix.lower() == ".npz"}
    if not tables or not files:
        raise ConversionError(
            f"{root}: found {len(files)} .npz volumes and {len(tables)} tables; expected both, the tables named like "
            "imgtrain_Abnormality_and_Location_Labels.csv"
        )
    found, missing, example = CaseList(notes=[f"label map: {label_map}"]), 0, ""
    for split, table in tables:
        content = read_csv(table, (ID,))
        rows, found.notes = content.rows, [*found.notes, *content.notes]
        columns = fold_columns(rows[0], label_map)
        absent = [label for label, names in columns.items() if not names]
        if len(absent) == len(columns):
            raise ConversionError(f"{table}: no column of the form abnormality*location; found {list(rows[0])[:5]}")
        if twice := find_conflicting_keys(rows, ID, rows[0]):
            found.notes.append(f"{table.name}: {len(twice)} volumes have two rows that differ, such as {twice[0]}")
        found.notes.append(f"{table.name}: unknown for all its cases: {', '.join(absent)}")
        for row in rows:
            name = re.sub(r"\.npz$", "", row[ID], flags=re.IGNORECASE)
            example = example or name
            if name not in files:
                missing += 1
                continue
            found.cases.append(
                dict(
                    case_id=name,
                    # One id is one scan; which scans share a patient is not published, the split by patient is.
                    patient_id=name,
                    split=split,
                    volume=dict(path=str(files.pop(name)), key="ct", **GEOMETRY),
                    labels=labels_of(row, columns),
                    source="Rad-ChestCT",
                    extra=dict(
                        labels_source=f"Rad-ChestCT, label map {label_map}",
                        findings=[c for c, v in row.items() if "*" in c and (v or "0").strip() not in ("0", "0.0")],
                    ),
                )
            )
    if not found.cases:
        raise ConversionError(
            f"none of the {missing} rows names one of the {len(files)} volumes: rows are named like {example!r}, "
            f"volumes like {next(iter(files))!r}"
        )
    found.dropped += [(name, "no row in any table") for name in sorted(files, key=natural_key)]
    if missing:
        found.notes.append(f"{missing} rows have no volume on disk")
    return found
