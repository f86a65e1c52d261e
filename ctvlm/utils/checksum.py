"""Checksums inside the zip files that torch.save writes.

torch does not verify the CRC of a zip file's records, so a file with a changed bit loads with changed weights.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

_MARK = b"ctvlm sha256 "
_COMMENT = len(_MARK) + 64
_TAIL = 2 + _COMMENT  # the length of a zip file's comment, and the comment
_BLOCK = 1 << 20


def add_checksum(path: str | Path) -> None:
    """Write the SHA-256 of a zip file without comment into its comment; ``torch.load`` ignores it.

    Raises:
        ValueError: the file is not a zip file, or has a comment.
    """
    with open(path, "rb+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 22))
        end = file.read()
        if not end.startswith(b"PK\5\6") or end[-2:] != b"\0\0":
            raise ValueError(f"{path} is not a zip file without comment")
        comment = _MARK + _sha256(file, size - 2).encode()
        file.seek(size - 2)
        file.write(len(comment).to_bytes(2, "little") + comment)


def damage(path: str | Path) -> str | None:
    """What is wrong with the content of a zip file; None if it is intact.

    A file without ``add_checksum`` is verified with the CRC of its records. A file that is not a zip file has no
    checksum, and is not verified.
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL))
        tail = file.read()
        comment = tail[2:]
        if comment.startswith(_MARK):
            expected = _COMMENT.to_bytes(2, "little") + _MARK + _sha256(file, size - _TAIL).encode()
            return None if tail == expected else "its SHA-256 differs from the one that was written with it"
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            if len(archive.comment) == _COMMENT:
                return "the comment that contains its SHA-256 has changed"
            record = archive.testzip()
    except Exception as error:  # a changed header can select any decompressor, each with its own errors
        return f"its zip structure is invalid ({error})"
    return f"the CRC-32 of its record {record} is wrong" if record else None


def _sha256(file, length: int) -> str:
    """Digest of the first bytes of an open file."""
    digest = hashlib.sha256()
    file.seek(0)
    while length > 0 and (block := file.read(min(_BLOCK, length))):
        digest.update(block)
        length -= len(block)
    return digest.hexdigest()
