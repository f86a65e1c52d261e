"""RegionScheme: the anatomical regions and the mapping of other label maps to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from ctvlm.anatomy.default_scheme import DEFAULT_SCHEME
from ctvlm.utils import BadDataError

DATA_DIR = Path(__file__).parent / "data"


class UnknownLabelError(BadDataError):
    """A label id or class name does not exist in the declared source."""


@dataclass(frozen=True)
class Region:
    """One region.

    Attributes:
        partner: id of the region on the other side, or None.
        snomed: SNOMED CT code, or None.
        hu: plausible range (low, high) of the mean HU, or None.
    """

    id: int
    name: str
    synonyms: tuple[str, ...] = ()
    partner: int | None = None
    snomed: str | None = None
    hu: tuple[float, float] | None = None

    @property
    def display_name(self) -> str:
        """Name in radiology text: "right upper lobe", "left kidney", "liver"."""
        return self.synonyms[0] if self.synonyms else self.name.replace("_", " ")


def _key(name: str) -> str:
    """Normalise a class name: lower case, with blanks for underscores."""
    return " ".join(name.lower().replace("_", " ").split())


@dataclass(frozen=True)
class RegionScheme:
    """R regions with ids 1..R (0 is background) and the mapping of other label maps to them.

    Attributes:
        classes: normalised class name of another label map to the region ids that it covers. One id: the class maps
            to that region. Several ids: the class is too coarse ("lung"). No id: the class is outside the scheme.
        id_tables: source name to its class names in id order, from id 1.
        reference: argument of ``load`` for this scheme: the name of a scheme of ctvlm, or the absolute path of a file.
            Cases store it, because the name does not identify a modified copy.
        fingerprint: sha256 of the scheme's file.
    """

    name: str
    version: str
    regions: tuple[Region, ...]
    classes: dict[str, tuple[int, ...]] = field(repr=False)
    id_tables: dict[str, tuple[str, ...]] = field(repr=False)
    reference: str = DEFAULT_SCHEME
    fingerprint: str = field(default="", repr=False)

    @staticmethod
    def load(name_or_path: str | Path = DEFAULT_SCHEME) -> RegionScheme:
        """Load a scheme of ctvlm by name, or any scheme by the path of its JSON file.

        Raises:
            FileNotFoundError: the scheme or file does not exist.
            ValueError: the file is not a scheme: ids are not 1..R, or a partner or fold refers to an unknown region.
        """
        path = Path(name_or_path)
        if path.suffix.lower() == ".json":
            path = path.expanduser().resolve()
            # The time is part of the cache key: an edited file is a different scheme.
            return _load(str(path), path.stat().st_mtime_ns if path.is_file() else None)
        return _load(str(name_or_path), None)

    @property
    def num_regions(self) -> int:
        return len(self.regions)

    @cached_property
    def names(self) -> list[str]:
        """Names in id order; index 0 is region id 1."""
        return [r.name for r in self.regions]

    @property
    def sources(self) -> list[str]:
        """Valid values of ``source`` in ``fold``."""
        return [self.name, *self.id_tables]

    @property
    def file(self) -> Path:
        """The JSON file that the scheme was loaded from."""
        return _file(self.reference)

    @cached_property
    def source_id(self) -> str:
        """``source`` of label maps with this scheme's ids: its name and a digest of its ids and names."""
        digest = hashlib.sha256("\n".join(self.names).encode()).hexdigest()[:8]
        return f"{self.name}@{digest}"

    def __getitem__(self, region_id: int) -> Region:
        self.name_of(region_id)
        return self.regions[region_id - 1]

    def name_of(self, region_id: int) -> str:
        if not 1 <= region_id <= self.num_regions:
            raise ValueError(f"region id {region_id} is not in scheme {self.name!r}; expected 1..{self.num_regions}.")
        return self.names[region_id - 1]

    def id_of(self, name: str) -> int:
        if name not in self.names:
            raise ValueError(
                f"region {name!r} is not in scheme {self.name!r}; expected one of {', '.join(self.names)}."
            )
        return self.names.index(name) + 1

    def partner_ids(self) -> dict[int, int]:
        """Region id to its id after a left-right flip; not always symmetric (2 to 4, 4 to 1)."""
        return {r.id: r.partner for r in self.regions if r.partner}

    def ids_of_class(self, class_name: str) -> tuple[int, ...]:
        """Region ids that a class of another label map covers.

        One id: the class maps to that region. Several ids: it is coarser than the scheme ("lung"). No id: it is
        outside the scheme ("urinary_bladder").

        Raises:
            UnknownLabelError: no known label map has this class.
        """
        try:
            return self.classes[_key(class_name)]
        except KeyError:
            raise UnknownLabelError(
                f"class {class_name!r} is unknown; expected a region of scheme {self.name!r} or a class of "
                "TotalSegmentator total v1, v2, v3, RadGenome or fVLM. Rename it, or add it to 'fold' or 'outside' of "
                "the scheme."
            ) from None

    def fold(self, label_array: np.ndarray, source: str = "totalsegmentator_v2") -> np.ndarray:
        """Map label ids of another label map to region ids (uint8, same shape).

        Classes that are outside the scheme or coarser than it become background.

        Args:
            source: declared origin of the ids: one of ``sources``, or ``source_id``. The name of this scheme and
                ``source_id`` leave the ids unchanged.

        Raises:
            UnknownLabelError: the source does not have an id (the message lists sources that have all ids), or the
                ids belong to another scheme of the same name, or the source is unknown.
        """
        labels = np.asarray(label_array)
        if labels.dtype.kind not in "iub":
            rounded = np.rint(labels)
            if not np.array_equal(rounded, labels):
                raise UnknownLabelError(f"label map: found fractions (dtype {labels.dtype}); expected integer ids.")
            labels = rounded.astype(np.int64)
        table = self._table(source)
        low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
        if low < 0 or high >= len(table):
            raise self._unknown_ids(np.unique(labels), source, len(table) - 1)
        return table[labels]

    def check_source(self, source: str | None, path: str | Path = "the label map") -> None:
        """Check that a label map at ``path`` contains this scheme's ids. ``source=None`` is not checked.

        Raises:
            UnknownLabelError: ``source`` is another scheme, or another version of this scheme.
        """
        if source not in (None, self.name, self.source_id):
            raise UnknownLabelError(
                f"{path}: found region ids of {source}; expected {self.source_id} ({self.reference}). Use the scheme "
                "file that it was written with."
            )

    def _table(self, source: str) -> np.ndarray:
        if source.partition("@")[0] == self.name:
            self.check_source(source)
            return np.arange(self.num_regions + 1, dtype=np.uint8)
        if source not in self.id_tables:
            raise UnknownLabelError(
                f"source {source!r} is unknown to scheme {self.name!r}; expected one of {', '.join(self.sources)}."
            )
        covered = [self.ids_of_class(name) for name in self.id_tables[source]]
        return np.array([0] + [ids[0] if len(ids) == 1 else 0 for ids in covered], dtype=np.uint8)

    def _unknown_ids(self, ids: np.ndarray, source: str, largest: int) -> UnknownLabelError:
        unknown = [int(i) for i in ids if i < 0 or i > largest]
        fitting = [s for s, t in self.id_tables.items() if ids.min() >= 0 and ids.max() <= len(t)]
        hint = (
            f"All ids exist in {' and '.join(fitting)}: declare that source." if fitting else "No source has these ids."
        )
        return UnknownLabelError(
            f"label ids {unknown[:10]} are not in {source!r}; expected 0..{largest}. {hint} A wrong version would "
            "assign wrong names to organs."
        )


def scheme_of(case: Mapping) -> RegionScheme:
    """Scheme of a case: its ``scheme`` (name or path), or the default."""
    return RegionScheme.load(case.get("scheme") or DEFAULT_SCHEME)


def region_names_of(sample: Mapping) -> Sequence[str]:
    """Region names of a data sample in id order: its ``region_names``, or those of its ``scheme``."""
    return sample.get("region_names") or scheme_of(sample).names


def _file(reference: str) -> Path:
    path = Path(reference)
    return path if path.suffix.lower() == ".json" else DATA_DIR / f"{reference}.json"


@lru_cache(maxsize=8)
def _load(reference: str, modified: int | None) -> RegionScheme:
    """Load a scheme; ``modified`` (time of the file in ns) is part of the cache key."""
    path = _file(reference)
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in DATA_DIR.glob("*.json") if not p.stem.startswith("totalseg")))
        raise FileNotFoundError(
            f"{path}: no such region scheme; expected one of {shipped}, or the path of a .json file."
        )
    try:
        content = path.read_bytes()
        raw = json.loads(content)
        regions = tuple(
            Region(
                id=r["id"],
                name=r["name"],
                synonyms=tuple(r.get("synonyms", ())),
                partner=r.get("partner"),
                snomed=r.get("snomed"),
                hu=tuple(r["hu"]) if r.get("hu") else None,
            )
            for r in raw["regions"]
        )
        ids = {r.name: r.id for r in regions}
        if list(ids.values()) != list(range(1, len(regions) + 1)) or len(regions) > 255:
            raise ValueError(f"found ids {[r.id for r in regions]}; expected 1..R in order, R <= 255, unique names")
        for r in regions:
            if r.partner is not None and not 1 <= r.partner <= len(regions):
                raise ValueError(f"found partner {r.partner} of {r.name!r}; expected 1..{len(regions)}")
        tables = json.loads((DATA_DIR / "totalsegmentator_total.json").read_text(encoding="utf-8"))
        tables.update(raw.get("id_tables", {}))
        classes: dict[str, tuple[int, ...]] = {_key(n): () for t in tables.values() for n in t}
        classes.update({_key(n): () for n in raw.get("outside", ())})
        classes.update({_key(n): tuple(ids[r] for r in covered) for n, covered in raw.get("coarse", {}).items()})
        classes.update({_key(n): (ids[r],) for r, folded in raw.get("fold", {}).items() for n in folded})
        classes.update({_key(n): (i,) for n, i in ids.items()})
        id_tables = {key: tuple(names) for key, names in tables.items()}
        return RegionScheme(
            raw["name"], raw["version"], regions, classes, id_tables, reference, hashlib.sha256(content).hexdigest()
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: not a region scheme ({error!r}). See {DATA_DIR / 'thorax_abdomen_20.json'} for an example."
        ) from None
