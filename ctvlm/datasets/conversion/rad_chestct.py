"""Conversion of Rad-ChestCT: volumes and labels by abnormality and location, without report text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ctvlm.datasets.conversion.case_list import CaseList, ConversionError
from ctvlm.datasets.conversion.tables import find_conflicting_keys, read_csv
from ctvlm.utils import natural_key

# Geometry of every volume (Draelos et al. 2021), not stored in the files. Axes in array order.
GEOMETRY = dict(spacing=[0.8, 0.8, 0.8], axes="IPL")
ID = "NoteAcc_DEID"
TABLES = {"train": "imgtrain*.csv", "val": "imgvalid*.csv", "test": "imgtest*.csv"}
Rules = dict[str, tuple[tuple[str, tuple[str, ...]], ...]]
# Rules that map the columns "<abnormality>*<location>" of Rad-ChestCT to the 18 labels of CT-RATE. An empty tuple means
# any location. Mosaic attenuation pattern has no column and is unknown. "ours" uses locations: a hernia is hiatal if it
# is located at the oesophagus or stomach.
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


# Rules of all published results (the "standard" mapping of RadFinder, also used by HLIP): any calcification counts as
# arterial and coronary, any hernia as hiatal; ground glass is not an opacity; breast implants are medical material,
# heart valves are not.
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
    """Return the columns of each CT-RATE label; empty if the table does not have the abnormality."""
    split = [(c, *c.split("*", 1)) for c in columns if "*" in c]
    return {
        label: [
            column
            for column, abnormality, location in split
            for name, locations in rules
            if abnormality == name and (not locations or location in locations)
        ]
        for label, rules in LABEL_MAPS[label_map].items()
    }


def labels_of(row: dict[str, str], columns: dict[str, list[str]]) -> dict[str, int | None]:
    """Return 1 if a column is positive, 0 if all are 0, None if there is no value."""
    out: dict[str, int | None] = {}
    for label, names in columns.items():
        values = [float(row[n]) for n in names if (row[n] or "").strip()]
        out[label] = None if not values else int(any(v > 0 for v in values))
    return out


def rad_chestct_cases(root: Path, label_map: str = "literature") -> CaseList:
    """List every volume that has a row in one of the three tables, in the split of its table.

    Args:
        label_map: rules that map columns to labels, see ``LABEL_MAPS``; stored in ``extra.labels_source``.

    Raises:
        ConversionError: no table, no volume, or no row that matches a volume on disk.
    """
    root = Path(root).absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: not a folder; expected the volumes and tables of Rad-ChestCT")
    tables = [(split, path) for split, pattern in TABLES.items() for path in sorted(root.rglob(pattern))]
    tables = [(s, p) for s, p in tables if "Abnormality" in p.name]
    files = {path.stem: path for path in sorted(root.rglob("*")) if path.suffix.lower() == ".npz"}
    if not tables or not files:
        raise ConversionError(
            f"{root}: found {len(files)} .npz volumes and {len(tables)} tables; expected both, with tables such as "
            "imgtrain_Abnormality_and_Location_Labels.csv"
        )
    listed, missing, example = CaseList(notes=[f"label map: {label_map}"]), 0, ""
    for split, table in tables:
        content = read_csv(table, (ID,))
        rows, listed.notes = content.rows, [*listed.notes, *content.notes]
        columns = fold_columns(rows[0], label_map)
        absent = [label for label, names in columns.items() if not names]
        if len(absent) == len(columns):
            raise ConversionError(
                f"{table}: found columns {list(rows[0])[:5]}; expected columns of the form abnormality*location"
            )
        if conflicts := find_conflicting_keys(rows, ID, rows[0]):
            listed.notes.append(f"{table.name}: {len(conflicts)} volumes have different rows, such as {conflicts[0]}")
        listed.notes.append(f"{table.name}: unknown labels of all cases: {', '.join(absent)}")
        for row in rows:
            name = re.sub(r"\.npz$", "", row[ID], flags=re.IGNORECASE)
            example = example or name
            if name not in files:
                missing += 1
                continue
            listed.cases.append(
                dict(
                    case_id=name,
                    # An id is a scan. The patients are not published, but the published split is by patient.
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
    if not listed.cases:
        raise ConversionError(
            f"{root}: none of the {missing} rows matches one of the {len(files)} volumes; rows have names such as "
            f"{example!r}, volumes {next(iter(files))!r}"
        )
    listed.dropped += [(name, "no row in any table") for name in sorted(files, key=natural_key)]
    if missing:
        listed.notes.append(f"{missing} rows without a volume on disk")
    return listed
