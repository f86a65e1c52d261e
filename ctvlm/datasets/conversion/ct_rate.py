"""Conversion of CT-RATE: volumes, reports, labels, metadata and masks."""

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
    CTRateName,
    check_release,
    ct_rate_name,
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
    """CT-RATE on disk.

    Data sets that build on it (CoT, RadGenome, ReXGroundingCT) use this class too, so that a patient is in the same
    split in all manifests.

    Splits: ``dev_fraction`` of the patients of ``train`` become ``val``. Published results use ``valid``, which
    therefore becomes ``test`` (``valid_as``).

    Args:
        root: folder that contains ``dataset/``, or ``dataset/`` itself.
        release: "v1" (stored values), "v2" (``_fixed``: HU), or "auto" (v2 if present).
        masks: folder of region maps with CT-RATE's folder structure; default: ``ts_seg/ts_total`` next to the volumes.
        mask_source: label map of the region maps.
        labels: corrected label table (``VolumeName`` and the findings) that replaces the published tables.

    Raises:
        ConversionError: no volumes, or a table without a row that matches a volume.
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
            raise FileNotFoundError(f"{root}: not a folder; expected the root of CT-RATE, which contains dataset/")
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
            self._scans.setdefault(ct_rate_name(volume).scan, []).append(volume)
        self.unverified_scans: set[str] = set()
        folders = [masks] if masks else [b / "ts_seg" / "ts_total" for b in (root / "dataset", root)]
        self.masks = next((Path(folder).absolute() for folder in folders if Path(folder).is_dir()), None)
        if masks and self.masks is None:
            raise FileNotFoundError(f"--masks {masks}: not a folder")
        for name in ("reports", "metadata", "labels"):
            self._check_match(name)
        for name, table in (("region maps", self.masks), ("labels", self.labels), ("metadata", self.metadata)):
            if not table:
                self.notes.append(f"{root}: found no {name}")

    def _table(self, endings: list[str], needs: Iterable[str] = (), compare: Iterable[str] | None = None) -> dict:
        paths = find_tables(self.root, *(pattern for ending in endings for pattern in _both(ending)))
        rows, notes = rows_by_name(paths, needs, compare)
        self.notes += notes
        return rows

    def _check_match(self, table_name: str) -> None:
        """Raise an error if no row of a table matches a volume."""
        table = getattr(self, table_name)
        if table and not any(self._row(table, ct_rate_name(volume)) for volume in self.volumes):
            raise ConversionError(
                f"{self.root}: none of the {len(self.volumes)} volumes has a row in the {table_name}; volumes have "
                f"names such as {next(iter(self.volumes))!r}, rows {next(iter(table))!r}; check that the splits match"
            )

    @staticmethod
    def _row(table: dict[str, dict], name: CTRateName) -> dict | None:
        return table.get(name.volume) or table.get(name.scan)

    def find(self, text: str) -> str | None:
        """Find the volume on disk for a volume name, or the representative reconstruction for a scan name.

        Returns None if there is none, or if no reconstruction of the scan can be used.
        """
        name = parse_name(text)
        if name is None or name.volume in self.volumes:
            return name.volume if name else None
        return self.represent(self._scans.get(name.scan, [])) if name.reconstruction is None else None

    def represent(self, volumes: Iterable[str]) -> str | None:
        """Choose one of the reconstructions of a scan; ``unverified_scans`` records choices without metadata."""
        usable = [volume for volume in volumes if not self.drop_reason(volume)]
        chosen, by_content = representative(usable, {volume: self.shows_chest(volume) for volume in usable})
        if chosen and not by_content and len(usable) > 1:
            self.unverified_scans.add(ct_rate_name(chosen).scan)
        return chosen

    def choice_notes(self) -> list[str]:
        """Return a warning if reconstructions were chosen without metadata on the body part."""
        if not self.unverified_scans:
            return []
        example = min(self.unverified_scans, key=natural_key)
        return [
            f"{len(self.unverified_scans)} scans (such as {example}): used the first reconstruction, which may show a "
            "head instead of a chest; add no_chest_*.txt or the metadata CSV to the root"
        ]

    def drop_reason(self, volume: str) -> str | None:
        """Return why a volume must not be used, or None."""
        if volume in KNOWN_BAD:
            return f"corrupt in the published data: {KNOWN_BAD[volume]}"
        if self._listed(volume):
            return "listed in no_chest: not a chest CT"
        return None

    def _listed(self, volume: str) -> bool:
        return volume in self.no_chest or ct_rate_name(volume).scan in self.no_chest

    def shows_chest(self, volume: str) -> bool | None:
        """Return whether a volume shows a chest, from the official list or else the metadata; None if unknown."""
        if ct_rate_name(volume).split in self._listed_splits:
            return not self._listed(volume)
        row = self._metadata_row(volume)
        return shows_chest(row, spacing_of(row) if row else None)

    def _metadata_row(self, volume: str) -> dict[str, str] | None:
        """Return the row of the volume itself, because the reconstructions of a scan differ in geometry."""
        row = self.metadata.get(volume)
        return row if row and ct_rate_name(row["VolumeName"]).volume == volume else None

    def report(self, volume: str) -> dict[str, str]:
        """Return ``findings`` and ``impression``, without empty parts."""
        row = self._row(self.reports, ct_rate_name(volume)) or {}
        report = dict(findings=clean(row.get("Findings_EN")), impression=clean(row.get("Impressions_EN")))
        return {key: text for key, text in report.items() if text}

    def evaluation_sets(self) -> dict[str, set[str]]:
        """Return the volumes on disk of each evaluation set, see ``ct_rate_scans.evaluation_sets``."""
        facts = {}
        for volume in self.volumes:
            row = self._metadata_row(volume)
            spacing = spacing_of(row) if row else None
            voxel = spacing[0] * spacing[1] * spacing[2] if spacing else None
            findings = self.report(volume).get("findings", "")
            facts[volume] = VolumeFacts(ct_rate_name(volume).scan, self.shows_chest(volume), voxel, findings)
        return evaluation_sets(facts)

    def case(self, volume: str, allow_no_chest: bool = False) -> dict:
        """Return the manifest line of a volume on disk.

        Args:
            allow_no_chest: keep volumes of the official list of volumes without a chest.

        Raises:
            DropCase: corrupt, without a chest, or (v1) without metadata.
        """
        name, path = ct_rate_name(volume), self.volumes[volume]
        if (reason := self.drop_reason(volume)) and (volume in KNOWN_BAD or not allow_no_chest):
            raise DropCase(reason)
        row = self._metadata_row(volume)
        report = self.report(volume)
        labels = {k: v for k, v in (self._row(self.labels, name) or {}).items() if k != "VolumeName"}
        bad = {k: v for k, v in labels.items() if (v or "").strip() not in LABELS}
        if bad:
            raise DropCase(f"label {next(iter(bad))!r} is {next(iter(bad.values()))!r}; expected 0, 1 or an empty cell")
        extra: dict[str, object] = dict(scan=name.scan, release=self.release)
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

    def _mask(self, name: CTRateName) -> dict | None:
        if self.masks is None:
            return None
        inside = Path(name.patient_id) / name.scan / f"{name.volume}.nii.gz"
        folders = (f"{name.split}_fixed", name.split, "")  # v1 and v2 have the same geometry and share masks
        path = next((p for f in folders if (p := self.masks / f / inside).is_file()), None)
        return None if path is None else dict(path=str(path), source=self.mask_source)


def _both(pattern: str) -> list[str]:
    return [f"{split}_{pattern}" for split in ("train", "valid", "validation")]


def ct_rate_cases(
    data: CTRate, allow_no_report: bool = False, one_per_scan: bool = False, evaluation_set: str | None = None
) -> CaseList:
    """List every volume on disk with its report. ``extra.sets`` contains the evaluation sets of a case.

    Args:
        allow_no_report: keep volumes without a report.
        one_per_scan: keep one reconstruction per scan, chosen by ``CTRate.represent``.
        evaluation_set: keep the volumes of this set; "all" and "first" include volumes without a chest.
    """
    sets = data.evaluation_sets()
    listed = CaseList(notes=list(data.notes))
    chosen: dict[str, str | None] = {}
    if one_per_scan:
        for volume in data.volumes:
            scan = ct_rate_name(volume).scan
            if scan not in chosen:
                chosen[scan] = data.find(scan)
        listed.notes += data.choice_notes()
    for volume in sorted(data.volumes, key=natural_key):
        try:
            case = data.case(volume, allow_no_chest=evaluation_set in ("all", "first"))
            case["extra"]["sets"] = [name for name, members in sets.items() if volume in members]
            if evaluation_set and volume not in sets[evaluation_set]:
                raise DropCase(f"not in the evaluation set {evaluation_set!r} (--set)")
            if not case["report"] and not allow_no_report:
                raise DropCase("no report, or only 'Not given.'; keep it with --allow-no-report")
            if one_per_scan and chosen[case["extra"]["scan"]] != volume:
                other = chosen[case["extra"]["scan"]]
                reason = f"{other} represents its scan" if other else "no reconstruction of its scan shows a chest"
                raise DropCase(f"{reason} (--one-per-scan)")
        except DropCase as reason:
            listed.dropped.append((volume, str(reason)))
            continue
        listed.cases.append(case)
    reported = {name for name in data.reports if name.count("_") == 3}
    if missing := len(reported - set(data.volumes)):
        listed.notes.append(f"{missing} volumes with a report are not on disk")
    return listed


def prepare_ct_rate(case: dict) -> dict:
    """Raise an error for a file of the other release, which voxel values alone may not reveal. Runs in a worker."""
    spacing, release = case["extra"].get("spacing"), case["extra"]["release"]
    for remark in check_release(case["volume"]["path"], release, tuple(spacing) if spacing else None):
        warnings.warn(remark, stacklevel=2)  # the summary shows it with the case
    return case


def open_ct_rate(args: argparse.Namespace) -> CTRate:
    """Open the data set given on the command line."""
    names = ("scheme", "labels", "masks", "mask_source", "dev_fraction", "valid_as")
    return CTRate(args.ct_rate, args.release, **{name: getattr(args, name) for name in names})
