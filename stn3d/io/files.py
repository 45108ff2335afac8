"""Atomic writing of files: a file appears complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from stn3d.errors import InputError
from stn3d.io.texts import shown_path


def check_output(path: str | os.PathLike[str]) -> Path:
    """Check that a file can be written, before any computation.

    Args:
        path: output file; an existing file will be replaced.

    Returns:
        The path as a `Path`.

    Raises:
        InputError: the path is a folder or no valid name, or its folder does not exist or is not
            writable.
    """
    path = Path(path)
    folder = path.parent
    if os.path.isdir(path):
        raise InputError(f"cannot write {path}: it is a folder; give the path of a file.")
    _require_possible(path)
    if not os.path.isdir(folder):
        raise InputError(f"cannot write {path}: there is no folder {folder}; create it first.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(
            f"cannot write {path}: the folder {folder} is not writable; choose another one."
        )
    return path


def _require_possible(path: Path) -> None:
    """Refuse names that the file system cannot hold."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no file can have this name"
        raise InputError(
            f"cannot write {shown_path(path)}: {reason}; choose another path."
        ) from None


def _part_of(path: Path) -> Path:
    """Path of a temporary file with the same ending, of a length that the file system can hold."""
    name = path.name if len(os.fsencode(path.name)) < 200 else path.name[-40:]
    return path.with_name(f".part-{uuid4().hex[:12]}-{name}")


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a temporary file in the same folder and rename it once it is complete.

    The content must not depend on the temporary name (gzip headers can hold one).

    Args:
        path: output file; replaced in one step, or left unchanged on failure.

    Yields:
        Path of the temporary file. It ends with the same file name (of a very long one, the last 40
        characters), so writers that select the format by the extension work as usual.

    Raises:
        InputError: the file cannot be written.
    """
    path = check_output(path)
    part = _part_of(path)
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"cannot write {path}: {reason}; check the folder's permissions and the free space."
        ) from error
    finally:
        part.unlink(missing_ok=True)
