"""Data files named in MetaImage and NRRD headers: where they may be, and whether compressed data is complete."""

from __future__ import annotations

import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from ctvlm.volume import files
from ctvlm.volume.ct_volume import CTReadError

TEXT_HEADERS = (".mha", ".mhd", ".nrrd", ".nhdr")
_META_FILE = re.compile(r"element\s*data\s*file\s*[=:]?\s*(.*)", re.IGNORECASE)
_NRRD_FILE = re.compile(r"\s*data\s*file\s*:(?!=)\s*(.*)", re.IGNORECASE)
_COMPRESSED = re.compile(r"\s*(?:CompressedData\s*[=:]\s*T|encoding\s*:\s*gz)", re.IGNORECASE)
_SKIPPED = re.compile(r"\s*(?:line|byte)\s*skip\s*:|\s*HeaderSize\s*[=:]", re.IGNORECASE)
_REMEDY = ("a file in the same folder", "move both into one folder, or set allow_outside=True if you trust the header")
_MAX_LINE = 10_000
_CHUNK = 1 << 20
_DAMAGED = ("a complete file", "download or write it again")


@dataclass(frozen=True)
class DataFiles:
    """Content of a text header.

    Attributes:
        names: data files as written in the header; empty if the data follows the header.
        offset: first byte after the header.
        compressed: the data is one zlib or gzip stream.
    """

    names: list[str]
    offset: int
    compressed: bool


def data_files(path: Path) -> DataFiles:
    """Read the data files that a MetaImage or NRRD header names; no name for other file types."""
    suffix = path.suffix.lower()
    if suffix not in TEXT_HEADERS:
        return DataFiles([], 0, False)
    meta = suffix in (".mha", ".mhd")
    values: list[str] = []
    listed, compressed, skipped = False, False, False
    with open(path, "rb") as file:
        while raw := file.readline(_MAX_LINE):
            line = raw.decode("latin-1").rstrip("\r\n")
            if listed:
                values.append(line.strip())
                continue
            if not meta and not line:
                break
            compressed |= _COMPRESSED.match(line) is not None
            skipped |= _SKIPPED.match(line) is not None
            # Anywhere in a line, because parsers differ in what they accept before the key.
            found = (_META_FILE.search if meta else _NRRD_FILE.match)(line)
            if not found:
                continue
            value = found[1].strip()
            if value.upper() == "LIST" or value.upper().startswith("LIST "):
                listed = True
                continue
            if value.upper() != "LOCAL":
                values.append(value)
            if meta and line.startswith("ElementDataFile"):
                break
        return DataFiles([name for name in values if name], file.tell(), compressed and not skipped)


def linked_files(path: Path) -> list[Path]:
    """Other files that belong to an image: detached data, or the second half of a NIfTI pair."""
    suffix = path.suffix.lower()
    if suffix in (".hdr", ".img"):
        others = {".hdr": ".img", ".img": ".hdr"}
        name = (path.stem + others[suffix]).lower()
        return sorted(p for p in path.parent.iterdir() if p.name.lower() == name)
    out: list[Path] = []
    for name in data_files(path).names:
        pattern, *numbers = name.split() if "%" in name else (name,)
        ends = [int(n) for n in numbers[:2] if n.isascii() and n.isdigit()]
        count = range(ends[0], min(ends[1], ends[0] + 100_000) + 1) if len(ends) == 2 else ()
        out += [path.parent / _number(pattern, n) for n in count] if "%" in name else [path.parent / name]
    return out


def _number(pattern: str, number: int) -> str:
    return re.sub(r"%0?(\d{0,3})[diu]", lambda m: str(number).zfill(int(m[1] or 0)), pattern)


def check_linked(path: Path, allow_outside: bool = False) -> None:
    """Check that the data files of a header are in its folder, because a header from others can name any file.

    They may also be in a folder of CTVLM_DATA_ROOTS.

    Raises:
        CTReadError: a data file is elsewhere, also through a link.
    """
    if allow_outside:
        return
    roots = [os.path.realpath(folder) for folder in (str(path.parent), *files.data_roots())]
    for name in data_files(path).names:
        pattern = name.split()[0] if "%" in name else name
        if "%" in name and re.sub(r"%0?\d{0,3}[diu]", "", pattern, count=1).count("%"):
            raise CTReadError(path, f"data file {name!r}", "one number such as %03d in the name", "rewrite the header")
        if not _is_inside(path.parent / pattern, roots):
            raise CTReadError(path, f"data file {name!r} outside the folder of the header", *_REMEDY)
    for other in linked_files(path):
        if not _is_inside(other, roots):
            raise CTReadError(path, f"{other.name}, a link to a file elsewhere", *_REMEDY)


def _is_inside(path: Path, roots: list[str]) -> bool:
    try:
        real = os.path.realpath(path)
    except ValueError:  # a null character
        return False
    return any(real.startswith(os.path.join(root, "")) for root in roots)


def check_compressed(path: Path) -> None:
    """Decompress the data of a compressed MetaImage or NRRD to its checksum: ITK returns damaged data without an error.

    Raises:
        CTReadError: the data is damaged.
    """
    content = data_files(path)
    if not content.compressed or len(content.names) > 1 or "%" in "".join(content.names):
        return
    stream = zlib.decompressobj(wbits=47)
    with open(path.parent / content.names[0] if content.names else path, "rb") as file:
        file.seek(0 if content.names else content.offset)
        try:
            while not stream.eof and (chunk := stream.unconsumed_tail or file.read(_CHUNK)):
                stream.decompress(chunk, _CHUNK)
        except zlib.error as error:
            raise CTReadError(path, f"damaged data ({error})", *_DAMAGED) from error
    if not stream.eof:
        raise CTReadError(path, "incomplete data", *_DAMAGED)
