"""Fingerprints of files: by size and time where these are known, by content otherwise."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from stn3d.errors import InputError
from stn3d.io import spec_files

Fingerprint: TypeAlias = "dict[str, str | int]"
"""``size``, ``mtime_ns`` and ``sha256`` of a file; of a folder, those of all its files."""

_BLOCK = 1 << 20
_COMPANIONS = {".hdr": (".img",), ".img": (".hdr",), ".mhd": (".raw", ".zraw"), ".nhdr": (".raw",)}


def input_path(role: str, path: str) -> str:
    """The file behind an input: an initial transform may be ``FORMAT:FILE``."""
    if role != "init":
        return path
    try:
        return str(spec_files(path)[0])
    except InputError:  # there is none
        return path


def fingerprint(path: str) -> Fingerprint:
    """The fingerprint of a file or a folder, with its content.

    Raises:
        OSError: it cannot be read.
    """
    size, mtime_ns = _stat(path)
    return {"size": size, "mtime_ns": mtime_ns, "sha256": _digest(path, size, mtime_ns)}


def is_unchanged(path: str, before: Mapping[str, str | int], *, read: bool = False) -> bool:
    """Whether a file is as it was.

    Args:
        path: the file.
        before: its earlier fingerprint.
        read: compare contents in any case, not only where size or time differ.
    """
    try:
        size, mtime_ns = _stat(path)
        if size != before["size"]:
            return False
        if mtime_ns == before.get("mtime_ns") and not read:
            return True
        return _digest(path, size, mtime_ns) == before["sha256"]
    except (OSError, KeyError):
        return False


def _stat(path: str) -> tuple[int, int]:
    """Total size and latest modification time of the files behind a path."""
    found = [one.stat() for one in _files(path)]
    if not found:
        raise FileNotFoundError(path)
    return sum(one.st_size for one in found), max(one.st_mtime_ns for one in found)


@lru_cache(maxsize=64)  # the template of a cohort is read once a process
def _digest(path: str, size: int, mtime_ns: int) -> str:
    """SHA-256 of the files behind a path, whose size and time make the cache's key."""
    digest = hashlib.sha256()
    files = list(_files(path))
    for file in files:
        if len(files) > 1:
            digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        with file.open("rb") as content:
            while block := content.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def _files(path: str) -> Iterator[Path]:
    """The file of an image and those that hold its voxels; of a folder (DICOM), all files in it."""
    one = Path(path)
    if os.path.isdir(one):
        yield from sorted(file for file in one.rglob("*") if file.is_file())
        return
    yield one
    for suffix in _COMPANIONS.get(one.suffix.lower(), ()):
        companion = one.with_suffix(suffix)
        if companion.exists():
            yield companion
