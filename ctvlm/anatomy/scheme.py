"""RegionScheme: which anatomical regions there are, and how other label maps fold into them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

DATA_DIR = Path(__file__).parent / "data"
DEFAULT_SCHEME = "thorax_abdomen_20"


class UnknownLabelError(ValueError):
    """A label id or class name that the declared source does not have."""


@dataclass(frozen=True)
class Region:
    """One region. ``partner``: id of its mirror image (or None). ``hu``: plausible mean HU (low, high)."""

    id: int
    name: str
    synonyms: tuple[str, ...] = ()
    partner: int | None = None
    snomed: str | None = None
    hu: tuple[float, float] | None = None

    @property
    def display_name(self) -> str:
        """The name as a radiologist writes it: "right upper lobe", "left kidney", "liver"."""
        return self.synonyms[0] if self.synonyms else self.name.replace("_", " ")


def _key(name: str) -> str:
    """Class names compare without case, and with blanks and underscores alike."""
    return " ".join(name.lower().replace("_", " ").split())


@dataclass(frozen=True)
class RegionScheme:
    """R regions with ids 1..R (0 is background) and the folds of other label maps into them.

    Attributes:
        classes: class name of other label maps (normalised) to the region ids that it covers: one id
            folds; several ids mean a class too coarse to fold ("lung"); none means outside the scheme.
        id_tables: source name to its class names in id order, from id 1.
        reference: what ``load`` takes to give this scheme again: the name of a scheme that ships with ctvlm, or the
            absolute path of a file. Cases carry it; the name alone does not identify an edited copy.
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
        """Load a scheme that ships with ctvlm by its name, or any scheme by the path of its JSON file.

        Raises:
            FileNotFoundError: no such scheme or file.
            ValueError: the file is not a scheme: ids are not 1..R, a partner or fold names no region.
        """
        path = Path(name_or_path)
        if path.suffix.lower() == ".json":
            path = path.expanduser().resolve()
            # An edited file is another scheme, also within one process.
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
        """What ``fold`` accepts as ``source``."""
        return [self.name, *self.id_tables]

    @cached_property
    def source_id(self) -> str:
        """``source`` of label maps that hold this scheme's ids: its name and a digest of its ids and names."""
        digest = hashlib.sha256("\n".join(self.names).encode()).hexdigest()[:8]
        return f"{self.name}@{digest}"

    def __getitem__(self, region_id: int) -> Region:
        self.name_of(region_id)
        return self.regions[region_id - 1]

    def name_of(self, region_id: int) -> str:
        if not 1 <= region_id <= self.num_regions:
            raise ValueError(
                f"region id {region_id} is not in scheme {self.name!r}, whose ids are 1..{self.num_regions}"
            )
        return self.names[region_id - 1]

    def id_of(self, name: str) -> int:
        if name not in self.names:
            raise ValueError(f"region {name!r} is not in scheme {self.name!r}; its regions are {', '.join(self.names)}")
        return self.names.index(name) + 1

    def partner_ids(self) -> dict[int, int]:
        """What each id becomes when an image is flipped left to right; not always both ways (2 to 4, 4 to 1)."""
        return {r.id: r.partner for r in self.regions if r.partner}

    def ids_of_class(self, class_name: str) -> tuple[int, ...]:
        """Region ids that a class of another label map covers, by its name.

        One id: the class folds into that region. Several: it is coarser than the scheme ("lung"). None:
        it is a known class outside the scheme ("urinary_bladder").

        Raises:
            UnknownLabelError: no known label map has such a class.
        """
        try:
            return self.classes[_key(class_name)]
        except KeyError:
            raise UnknownLabelError(
                f"class {class_name!r} is neither a region of scheme {self.name!r} nor a class of TotalSegmentator "
                "total v1, v2, v3, RadGenome or fVLM; rename it, or add it to the scheme's 'fold' or 'outside'"
            ) from None

    def fold(self, label_array: np.ndarray, source: str = "totalsegmentator_v2") -> np.ndarray:
        """Map an array of another map's label ids to region ids (uint8, same shape).

        Classes outside the scheme, and classes coarser than it, become background.

        Args:
            source: the declared origin of the ids: one of ``sources``, or ``source_id``. The scheme's own name and
                ``source_id`` leave the ids as they are.

        Raises:
            UnknownLabelError: an id that the source does not have (the message names another version of the source
                that has all the ids found), or ids of another scheme of the same name.
            ValueError: an unknown source.
        """
        labels = np.asarray(label_array)
        if labels.dtype.kind not in "iub":
            rounded = np.rint(labels)
            if not np.array_equal(rounded, labels):
                raise UnknownLabelError(
                    f"a label map holds whole ids, but this one has fractions (dtype {labels.dtype})"
                )
            labels = rounded.astype(np.int64)
        table = self._table(source)
        low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
        if low < 0 or high >= len(table):
            self._refuse(np.unique(labels), source, len(table) - 1)
        return table[labels]

    def check_source(self, source: str | None, path: str | Path = "the label map") -> None:
        """Check that ``source`` is this scheme: ids of a label map of it need no fold. None is not checked.

        Raises:
            UnknownLabelError: another scheme, or another file's version of it; names ``path``.
        """
        if source not in (None, self.name, self.source_id):
            raise UnknownLabelError(
                f"{path} has region ids of {source}, expected {self.source_id} ({self.reference}): give the scheme "
                "file that it was written with"
            )

    def _table(self, source: str) -> np.ndarray:
        if source.partition("@")[0] == self.name:
            self.check_source(source)
            return np.arange(self.num_regions + 1, dtype=np.uint8)
        if source not in self.id_tables:
            raise ValueError(
                f"label source {source!r} is unknown to scheme {self.name!r}; known: {', '.join(self.sources)}"
            )
        covered = [self.ids_of_class(name) for name in self.id_tables[source]]
        return np.array([0] + [ids[0] if len(ids) == 1 else 0 for ids in covered], dtype=np.uint8)

    def _refuse(self, found: np.ndarray, source: str, largest: int) -> None:
        bad = [int(i) for i in found if i < 0 or i > largest]
        fits = [s for s, t in self.id_tables.items() if found.min() >= 0 and found.max() <= len(t)]
        hint = f"all ids found fit {' and '.join(fits)}: declare that" if fits else "no known source has these ids"
        raise UnknownLabelError(
            f"label ids {bad[:10]} are not in {source!r}, whose ids are 0..{largest}; {hint} (a wrong version puts "
            "wrong names on organs without any error)"
        )


def scheme_of(case: Mapping) -> RegionScheme:
    """The scheme of a case: of its ``scheme`` (name or path), else the default."""
    return RegionScheme.load(case.get("scheme") or DEFAULT_SCHEME)


def region_names_of(sample: Mapping) -> Sequence[str]:
    """Region names of a data sample, in id order from id 1; a sample without them has the regions of its ``scheme``."""
    return sample.get("region_names") or scheme_of(sample).names


@lru_cache(maxsize=8)
def _load(reference: str, modified: int | None) -> RegionScheme:
    """Load; ``modified`` (time of the file, ns) is part of the cache's key."""
    path = Path(reference)
    if path.suffix.lower() != ".json":
        path = DATA_DIR / f"{reference}.json"
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in DATA_DIR.glob("*.json") if not p.stem.startswith("totalseg")))
        raise FileNotFoundError(
            f"no region scheme at {path}; shipped schemes: {shipped}; or give the path of a .json file"
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
            raise ValueError(f"ids must be 1..R in order, R <= 255, names unique; found {[r.id for r in regions]}")
        for r in regions:
            if r.partner is not None and not 1 <= r.partner <= len(regions):
                raise ValueError(f"partner {r.partner} of {r.name!r} is not in 1..{len(regions)}")
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
            f"{path} is not a region scheme: {error!r}; compare {DATA_DIR / 'thorax_abdomen_20.json'}"
        ) from None
