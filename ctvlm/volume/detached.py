"""Data files named in MetaImage and NRRD headers: where they may be, and whether compressed data is complete."""

from __future__ import annotations

import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from ctvlm.utils.limits import excess_bytes
from ctvlm.volume import files
from ctvlm.volume.ct_volume import CTReadError

TEXT_HEADERS = (".mha", ".mhd", ".nrrd", ".nhdr")
PAIRS = {".hdr": ".img", ".img": ".hdr"}
# Any occurrence, because parsers differ in what they accept before and after the key.
_META_FILE = re.compile(rb"element\s*data\s*file\s*[=:]?", re.IGNORECASE)
_NRRD_FILE = re.compile(rb"data\s*file\s*:(?!=)", re.IGNORECASE)
_META_END = re.compile(rb"(?:^|[\r\n])[ \t]*ElementDataFile[ \t]*[=:][ \t]*([^\r\n]*)(?:\r?\n)?")
_NRRD_END = re.compile(rb"\n\r?\n")
_LINE_END = re.compile(rb"[\r\n]+")
_LOCAL = (b"LOCAL", b"Local", b"local")
_COMPRESSED = re.compile(rb"[ \t]*(?:CompressedData\s*[=:]\s*[T1]|encoding\s*:\s*gz)", re.IGNORECASE)
_SKIPPED = re.compile(rb"[ \t]*(?:(?:line|byte)\s*skip\s*:|HeaderSize\s*[=:])", re.IGNORECASE)
# Names of slices, such as s%03d.raw, before the first, last and step. ASCII, as in the parsers.
_PATTERN = re.compile(r"([^%\s]*?)%0?\d{0,2}[diu]([^%\s/\\]*)(?:[ \t].*)?", re.ASCII)
_REMEDY = (
    "a file in the same folder",
    "move both into one folder; if you trust the header, add the folder of the data to the environment variable "
    "CTVLM_DATA_ROOTS, or use allow_outside=True (--allow-outside of a tool)",
)
# MetaIO reads NDims values of most keys, and does not check this number: with -1 it does not end.
_DIMENSIONS = re.compile(rb"NDims[^=:\r\n]*[=:][ \t]*([^\r\n]*?)[ \t]*(?:[\r\n]|$)")
_MAX_HEADER = 1 << 20
# The parsers copy lines into buffers of fixed size. Longer values of NRRD keys ("key:=value") are common in 3D Slicer.
_MAX_LINE = {"meta": 500, "nrrd": 1000}
_CHUNK = 1 << 20
_DAMAGED = ("a complete file", "download or write it again")


def may_name_files(path: str) -> bool:
    """Whether an image has, or may have, its data in other files, which ``read_ct`` accepts anywhere if told so."""
    return path.lower().endswith((*TEXT_HEADERS, *PAIRS))


@dataclass(frozen=True)
class DataFiles:
    """Content of a text header.

    Attributes:
        names: data files as written in the header; empty if the data follows the header.
        offset: first byte after the header.
        compressed: the data is one zlib or gzip stream.
        problem: why a parser may find other data files than ``names``; "" if it does not.
    """

    names: list[str]
    offset: int = 0
    compressed: bool = False
    problem: str = ""


def data_files(path: Path) -> DataFiles:
    """Read the data files that a MetaImage or NRRD header names; no name for other file types."""
    suffix = path.suffix.lower()
    if suffix not in TEXT_HEADERS:
        return DataFiles([])
    meta = suffix in (".mha", ".mhd")
    with open(path, "rb") as file:
        head = file.read(_MAX_HEADER)
        longer = bool(file.read(1))
    end = (_META_END if meta else _NRRD_END).search(head)
    offset = end.end() if end else len(head)
    # Voxels after the header are not split into lines, unless they could contain the key.
    with_voxels = b"LIST" in head[:offset] or b"file" in head[offset:].lower()
    names, listed = _names(head if with_voxels else head[:offset], meta)
    lines = _LINE_END.split(head[:offset])
    if longer and (end is None or listed or (meta and end[1].strip() not in _LOCAL)):
        problem = f"a header of more than {_MAX_HEADER:,} bytes"
    else:
        problem = _long_line(lines, meta) or (_wrong_dimensions(head[:offset]) if meta else "")
    compressed = any(map(_COMPRESSED.match, lines)) and not any(map(_SKIPPED.match, lines))
    return DataFiles([os.fsdecode(name) for name in names], offset, compressed, problem)


def _names(head: bytes, meta: bool) -> tuple[list[bytes], bool]:
    """Values of the key in any line, with the lines after the value LIST; whether there is such a list."""
    key, names, listed = _META_FILE if meta else _NRRD_FILE, [], False
    for line in _LINE_END.split(head):
        if listed:
            names.append(line.strip())
        elif meta or not line.startswith(b"#"):
            values = [line[found.end() :].strip() for found in key.finditer(line)]
            listed = any(value.startswith(b"LIST") for value in values)
            names += [value for value in values if value not in _LOCAL and not value.startswith(b"LIST")]
    return [name for name in names if name], listed


def _long_line(lines: list[bytes], meta: bool) -> str:
    limit = _MAX_LINE["meta" if meta else "nrrd"]
    for line in lines:
        if len(line) >= limit and (meta or not (line.startswith(b"#") or b":=" in line[:limit])):
            return f"a line of {len(line):,} bytes in the header"
    return ""


def _wrong_dimensions(head: bytes) -> str:
    wrong = [value for value in _DIMENSIONS.findall(head) if not re.fullmatch(rb"0*[1-9]", value)]
    return f"NDims = {wrong[0].decode('latin-1'):.20}, not a number from 1 to 9" if wrong else ""


def linked_files(path: Path) -> list[Path]:
    """Other files that belong to an image: detached data, or the second half of a NIfTI pair."""
    other = PAIRS.get(path.suffix.lower())
    if other:
        return sorted(p for p in path.parent.iterdir() if p.name.lower() == (path.stem + other).lower())
    return [file for name in data_files(path).names for file in _files_of(path, name)]


def _files_of(path: Path, name: str) -> list[Path]:
    """Data files of a name in a header; for a pattern all that it can mean, as parsers read numbers in many ways."""
    found = _PATTERN.fullmatch(name)
    if "%" not in name or not found:
        return [path.parent / name]
    folder, start = path.parent / os.path.dirname(found[1]), os.path.basename(found[1])
    number = re.compile(rf"{re.escape(start)} *[-+]?\d+{re.escape(found[2])}", re.ASCII)
    return sorted(p for p in folder.iterdir() if number.fullmatch(p.name)) if folder.is_dir() else []


def check_linked(path: Path, allow_outside: bool = False) -> None:
    """Check that the data files of a header are in its folder, because a header from others can name any file.

    They may also be in a folder of CTVLM_DATA_ROOTS.

    Raises:
        CTReadError: a data file is elsewhere, also through a link, or a line of the header is too long for parsers.
    """
    content = data_files(path)
    if content.problem:
        raise CTReadError(path, content.problem, "a MetaImage or NRRD header", "write the file again")
    if allow_outside:
        return
    folders = (str(path.parent), *files.data_roots())
    roots = [os.path.realpath(folder) for folder in folders if not files.is_url(folder)]
    for name in content.names:
        if "%" in name and not _PATTERN.fullmatch(name):
            raise CTReadError(path, f"data file {name!r}", "one number such as %03d in the name", "rewrite the header")
        if not _is_inside(path.parent / (re.split("[ \\t]", name)[0] if "%" in name else name), roots):
            raise CTReadError(path, f"data file {name!r} outside the folder of the header", *_REMEDY)
    for other in linked_files(path) if content.names or path.suffix.lower() in PAIRS else ():
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
        CTReadError: the data is damaged, or larger than CTVLM_MAX_BYTES.
    """
    content = data_files(path)
    if not content.compressed or len(content.names) > 1 or "%" in "".join(content.names):
        return
    stream, total = zlib.decompressobj(wbits=47), 0
    with open(path.parent / content.names[0] if content.names else path, "rb") as file:
        file.seek(0 if content.names else content.offset)
        try:
            while not stream.eof and (chunk := stream.unconsumed_tail or file.read(_CHUNK)):
                total += len(stream.decompress(chunk, _CHUNK))
                if problem := excess_bytes(total):
                    raise CTReadError(path, f"more than {problem[0]}", *problem[1:])
        except zlib.error as error:
            raise CTReadError(path, f"damaged data ({error})", *_DAMAGED) from error
    if not stream.eof:
        raise CTReadError(path, "incomplete data", *_DAMAGED)
