"""The folder of a template: one build at a time, and the state of a build that was interrupted."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stn3d.errors import InputError
from stn3d.io import atomic_write
from stn3d.io.texts import shown_path
from stn3d.registration.folders import results_folder

TEMPLATE, SUMMARY = "template.nii.gz", "template.json"
_WORK, _LOCK = ".work", ".lock"


@dataclass(frozen=True)
class Folder:
    """The folder of a template.

    Args:
        path: the folder.
    """

    path: Path

    @property
    def template(self) -> Path:
        """The template image."""
        return self.path / TEMPLATE

    def work(self, part: str) -> Path:
        """A folder for a part of the build, removed at its end."""
        found = self.path / _WORK / part
        found.mkdir(parents=True, exist_ok=True)
        return found

    def finished(self, key: str) -> dict[str, Any] | None:
        """The summary, if it is of the same build and all its files are intact."""
        try:
            content = json.loads((self.path / SUMMARY).read_text(encoding="utf8"))
            intact = content["key"] == key and all(
                file_hash(self.path / name) == digest for name, digest in content["files"].items()
            )
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return None
        return content if intact else None

    def begin(self) -> None:
        """Remove the summary of an earlier build: it is written last, so it marks a whole one."""
        (self.path / SUMMARY).unlink(missing_ok=True)

    def finish(self, summary: dict[str, Any], files: Sequence[Path]) -> dict[str, Any]:
        """Write the summary, with the hashes of all files, and remove the state of the build."""
        hashes = {path.relative_to(self.path).as_posix(): file_hash(path) for path in files}
        content = {**summary, "files": hashes}
        with atomic_write(self.path / SUMMARY) as part:
            part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf8")
        shutil.rmtree(self.path / _WORK, ignore_errors=True)
        return content


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Folder]:
    """The folder of a template, created if needed and locked against a second build.

    Raises:
        InputError: it cannot be written, or another build runs in it.
    """
    with results_folder(path) as made:
        lock = made / _LOCK
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor, made)
            yield Folder(made)
            lock.unlink(missing_ok=True)
        except BaseException:
            if not (made / _WORK).exists():
                lock.unlink(missing_ok=True)  # so that a folder made in vain can be removed
            raise
        finally:
            os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise InputError(
            f"another build of a template is running in {shown_path(path)}; wait for it, or give "
            "another --out."
        ) from None


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_hash(content: Any) -> str:
    """SHA-256 of what JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
