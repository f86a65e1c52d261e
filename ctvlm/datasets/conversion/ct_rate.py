"""CT-RATE: volumes, reports, labels, metadata and masks to cases."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterable
from pathlib import Path

from ctvlm.anatomy import DEFAULT_SCHEME, mention_lexicon
from ctvlm.datasets.conversion.case_list import CaseList, ConversionError, DropCase
from ctvlm.datasets.conversion.ct_rate_files import (
    GEOMETRY,
    KNOWN_BAD,
    Name,
    check_release,
    find_tables,
    find_volumes,
    parse_name,
    read_names,
    rows_by_name,
    spacing_of,
    v1_volume,
)
from ctvlm.datasets.conversion.ct_rate_scans import VolumeFacts, evaluation_sets, representative, shows_chest
from ctvlm.datasets.conversion.splits import carve
from ctvlm.datasets.conversion.text import clean, text_steps
from ctvlm.utils import natural_key

EXTRA = {"PatientSex": "sex", "PatientAge": "age", "Manufacturer": "manufacturer", "ConvolutionKernel": "kernel"}
TEXTS = ("Findings_EN", "Impressions_EN")
LABELS = {"0": 0, "0.0": 0, "1": 1, "1.0": 1, "": None}


class CTRate:
    """The data set on disk. What other data sets (CoT, RadGenome, ReXGroundingCT) build on it goes through here too, so
    that a patient is in the same split in all of their manifests.

    Splits: ``train`` stays, but for ``dev_fraction`` of its patients, which become ``val``; the published ``valid`` is
    what the field reports on, so it becomes ``test`` (``valid_as``).

    Args:
        root: folder that holds ``dataset/``, or what ``dataset/`` holds.
        release: "v1" (stored values), "v2" (``_fixed``: HU), or "auto": v2 where it is there.
        masks: folder of region maps in CT-RATE's tree; default: ``ts_seg/ts_total`` beside the volumes.
        mask_source: what their ids are.
        labels: a corrected label table (``VolumeName`` and the findings) instead of the published ones.

    Raises:
        ConversionError: no volumes, or tables of which no row fits a volume.
    """

    def __init__(
        self,
        root: Path,
        release: str = "auto",
        *,
        scheme: str = DEFAULT_SCHEME,
        masks: Path | None = None,
        mask_source: str = "totalsegmentator_v2",
        dev_fraction: float = 0.02,
        valid_as: str = "test",
        labels: Path | None = None,
    ) -> None:
        root = Path(root).absolute()
        if not root.is_dir():
            raise FileNotFoundError(f"{root} is not a folder; expected CT-RATE's root, which holds dataset/")
        self.root, self.lexicon, self.mask_source = root, mention_lexicon(scheme), mask_source
        self.dev_fraction, self.valid_as = dev_fraction, valid_as
        self.volumes, self.release, self.notes = find_volumes(root, release)
        self.reports = self._table(["reports*.csv"], TEXTS, TEXTS)
        self.metadata = self._table(["metadata*.csv"], GEOMETRY, GEOMETRY)
        self.labels_source = Path(labels).name if labels else "CT-RATE"
        if labels:
            self.labels, notes = rows_by_name([Path(labels)])
            self.notes += notes
        else:
            self.labels = self._table(["predicted_labels*.csv", "labels*.csv"])
        lists = find_tables(root, "no_chest_*.txt")
        self.no_chest = read_names(lists)
        self._listed_splits = {"train" if "train" in path.name else "valid" for path in lists}
        self._scans: dict[str, list[str]] = {}
        for volume in self.volumes:
            self._scans.setdefault(parse_name(volume).scan, []).append(volume)
        self.unsure: set[str] = set()
        places = [masks] if masks else [b / "ts_seg" / "ts_total" for b in (root / "dataset", root)]
        self.masks = next((Path(place).absolute() for place in places if Path(place).is_dir()), None)
        if masks and self.masks is None:
            raise FileNotFoundError(f"--masks {masks} is not a folder")
        for what in ("reports", "metadata", "labels"):
            self._must_match(what)
        for what, table in (("region maps", self.masks), ("labels", self.labels), ("metadata", self.metadata)):
            if not table:
                self.notes.append(f"no {what} found under {root}: cases have none")

    def _table(self, endings: list[str], needs: Iterable[str] = (), compare: Iterable[str] | None = None) -> dict:
        paths = find_tables(self.root, *(pattern for ending in endings for pattern in _both(ending)))
        rows, notes = rows_by_name(paths, needs, compare)
        self.notes += notes
        return rows

    def _must_match(self, what: str) -> None:
        """Tables that fit no volume are a join on the wrong name, never an empty data set."""
        table = getattr(self, what)
        if table and not any(self._row(table, parse_name(volume)) for volume in self.volumes):
            raise ConversionError(
                f"none of the {len(self.volumes)} volumes has a row in the {what}: volumes are named like "
                f"{next(iter(self.volumes))!r}, rows like {next(iter(table))!r}; are both of the same split?"
            )

    @staticmethod
    def _row(table: dict[str, dict], name: Name) -> dict | None:
        return table.get(name.volume) or table.get(name.scan)

    def find(self, text: str) -> str | None:
        """The volume on disk that a name means: itself, or the reconstruction that represents a scan.

        None where there is none, or where all reconstructions of the scan are dropped or show no chest.
        """
        name = parse_name(text)
        if name is None or name.volume in self.volumes:
            return name.volume if name else None
        return self.represent(self._scans.get(name.scan, [])) if name.reconstruction is None else None

    def represent(self, volumes: Iterable[str]) -> str | None:
        """The reconstruction that represents a scan, of those given; a choice without facts is put into ``unsure``."""
        kept = [volume for volume in volumes if not self.drop_reason(volume)]
        chosen, by_content = representative(kept, {volume: self.shows_chest(volume) for volume in kept})
        if chosen and not by_content and len(kept) > 1:
            self.unsure.add(parse_name(chosen).scan)
        return chosen

    def choice_notes(self) -> list[str]:
        """A warning where reconstructions were chosen without facts about what they show."""
        if not self.unsure:
            return []
        example = min(self.unsure, key=natural_key)
        return [
            f"{len(self.unsure)} scans (such as {example}): the first reconstruction was taken without knowing whether "
            "it shows a chest or a head; put no_chest_*.txt or the metadata CSV under the root"
        ]

    def drop_reason(self, volume: str) -> str | None:
        """Why a volume must not be used; None where it may be."""
        if volume in KNOWN_BAD:
            return f"known to be broken in the published data: {KNOWN_BAD[volume]}"
        if self._listed(volume):
            return "listed in no_chest: not a chest CT"
        return None

    def _listed(self, volume: str) -> bool:
        return volume in self.no_chest or parse_name(volume).scan in self.no_chest

    def shows_chest(self, volume: str) -> bool | None:
        """By the official list of the split where it is there, else by the metadata; None where nothing is known."""
        if parse_name(volume).split in self._listed_splits:
            return not self._listed(volume)
        row = self._metadata_row(volume)
        return shows_chest(row, row and spacing_of(row))

    def _metadata_row(self, volume: str) -> dict[str, str] | None:
        """A volume's own row: reconstructions of one scan differ in geometry."""
        row = self.metadata.get(volume)
        return row if row and parse_name(row["VolumeName"]).volume == volume else None

    def report(self, volume: str) -> dict[str, str]:
        """``findings`` and ``impression``, as far as they are given."""
        row = self._row(self.reports, parse_name(volume)) or {}
        report = dict(findings=clean(row.get("Findings_EN")), impression=clean(row.get("Impressions_EN")))
        return {key: text for key, text in report.items() if text}

    def evaluation_sets(self) -> dict[str, set[str]]:
        """Volumes on disk of each named evaluation set, see ``ct_rate_scans.evaluation_sets``."""
        facts = {}
        for volume in self.volumes:
            row = self._metadata_row(volume)
            spacing = row and spacing_of(row)
            voxel = spacing[0] * spacing[1] * spacing[2] if spacing else None
            findings = self.report(volume).get("findings", "")
            facts[volume] = VolumeFacts(parse_name(volume).scan, self.shows_chest(volume), voxel, findings)
        return evaluation_sets(facts)

    def case(self, volume: str, allow_no_chest: bool = False) -> dict:
        """The manifest line of a volume on disk.

        Args:
            allow_no_chest: keep a volume that the official list leaves out.

        Raises:
            DropCase: known to be bad, no chest in it, or (v1) without metadata.
        """
        name, path = parse_name(volume), self.volumes[volume]
        if (reason := self.drop_reason(volume)) and (volume in KNOWN_BAD or not allow_no_chest):
            raise DropCase(reason)
        row = self._metadata_row(volume)
        report = self.report(volume)
        labels = {k: v for k, v in (self._row(self.labels, name) or {}).items() if k != "VolumeName"}
        bad = {k: v for k, v in labels.items() if (v or "").strip() not in LABELS}
        if bad:
            raise DropCase(f"label {next(iter(bad))!r} is {next(iter(bad.values()))!r}; expected 0, 1 or nothing")
        extra = dict(scan=name.scan, release=self.release)
        extra.update(labels_source=self.labels_source if labels else None)
        extra.update({key: row[column] for column, key in EXTRA.items() if row and row.get(column)})
        extra.update(spacing=list(spacing) if row and (spacing := spacing_of(row)) else None)
        return dict(
            case_id=volume,
            patient_id=name.patient_id,
            split=carve("train" if name.split == "train" else self.valid_as, name.patient_id, self.dev_fraction),
            volume=v1_volume(path, row) if self.release == "v1" else dict(path=str(path)),
            region_map=self._mask(name),
            report=report,
            cot=text_steps(report.get("findings", ""), self.lexicon),
            labels={k: LABELS[(v or "").strip()] for k, v in labels.items()},
            source=f"CT-RATE {self.release}",
            extra={key: value for key, value in extra.items() if value is not None},
        )

    def _mask(self, name: Name) -> dict | None:
        if self.masks is None:
            return None
        inside = Path(name.patient_id) / name.scan / f"{name.volume}.nii.gz"
        folders = (f"{name.split}_fixed", name.split, "")  # v1 geometry is that of v2: the same masks fit
        path = next((p for f in folders if (p := self.masks / f / inside).is_file()), None)
        return None if path is None else dict(path=str(path), source=self.mask_source)


def _both(pattern: str) -> list[str]:
    return [f"{split}_{pattern}" for split in ("train", "valid", "validation")]


def ct_rate_cases(
    data: CTRate, allow_no_report: bool = False, one_per_scan: bool = False, evaluation_set: str | None = None
) -> CaseList:
    """Every volume on disk with its report; each case lists the evaluation sets that it belongs to.

    Args:
        one_per_scan: keep one reconstruction of each scan, chosen by ``CTRate.represent``.
        evaluation_set: keep the volumes of this set; "all" and "first" also hold the listed scans without a chest.
    """
    sets = data.evaluation_sets()
    found = CaseList(notes=list(data.notes))
    chosen: dict[str, str | None] = {}
    if one_per_scan:
        for volume in data.volumes:
            scan = parse_name(volume).scan
            if scan not in chosen:
                chosen[scan] = data.find(scan)
        found.notes += data.choice_notes()
    for volume in sorted(data.volumes, key=natural_key):
        try:
            case = data.case(volume, allow_no_chest=evaluation_set in ("all", "first"))
            case["extra"]["sets"] = [name for name, members in sets.items() if volume in members]
            if evaluation_set and volume not in sets[evaluation_set]:
                raise DropCase(f"not in the evaluation set {evaluation_set!r} (--set)")
            if not case["report"] and not allow_no_report:
                raise DropCase("no report (or one that is all 'Not given.'); --allow-no-report keeps it")
            if one_per_scan and chosen[case["extra"]["scan"]] != volume:
                other = chosen[case["extra"]["scan"]]
                kept = f"{other} is kept of its scan" if other else "no reconstruction of its scan shows a chest"
                raise DropCase(f"{kept} (--one-per-scan)")
        except DropCase as reason:
            found.dropped.append((volume, str(reason)))
            continue
        found.cases.append(case)
    reported = {name for name in data.reports if name.count("_") == 3}
    if missing := len(reported - set(data.volumes)):
        found.notes.append(f"{missing} volumes have a report and are not on disk")
    return found


def prepare_ct_rate(case: dict) -> dict:
    """In a worker, before a case is opened: refuse a file of the other release, which its values alone may not show."""
    spacing, release = case["extra"].get("spacing"), case["extra"]["release"]
    for remark in check_release(case["volume"]["path"], release, tuple(spacing) if spacing else None):
        warnings.warn(remark, stacklevel=2)  # the runner lists it beside the case
    return case


def add_ct_rate_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of every converter that builds on CT-RATE's volumes."""
    parser.add_argument("--release", choices=("auto", "v1", "v2"), default="auto", help="v1: stored values; v2: HU")
    parser.add_argument("--masks", type=Path, help="folder of region maps; default: ts_seg/ts_total beside the volumes")
    parser.add_argument(
        "--labels", type=Path, help="corrected labels (CSV: VolumeName and findings); default: CT-RATE's"
    )
    parser.add_argument("--mask-source", default="totalsegmentator_v2", help="what the ids of region maps are")
    parser.add_argument("--dev-fraction", type=float, default=0.02, help="share of training patients put in 'val'")
    parser.add_argument("--valid-as", default="test", help="split that the published 'valid' becomes")


def open_ct_rate(args: argparse.Namespace) -> CTRate:
    """The data set that the command line names."""
    names = ("scheme", "labels", "masks", "mask_source", "dev_fraction", "valid_as")
    return CTRate(args.ct_rate, args.release, **{name: getattr(args, name) for name in names})
