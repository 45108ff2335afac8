"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from stn3d.errors import InputError


def check_output(path: str | os.PathLike[str]) -> Path:
    """Find out before any work whether a file can be written here.

    Args:
        path: the file to be written; it may exist, then it will be replaced.

    Returns:
        The path as a `Path`.

    Raises:
        InputError: the path is a folder, or its folder is missing or may not be written.
    """
    path = Path(path)
    folder = path.parent
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; name a file in it.")
    if not folder.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {folder}; create it first.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(
            f"cannot write {path}: the folder {folder} is not writable; choose another one."
        )
    return path


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file beside its place and move it there once it is complete.

    What is written must not depend on the temporary name (gzip headers can hold one).

    Args:
        path: the file to be written; it is replaced in one step, or left as it was on failure.

    Yields:
        A path in the same folder that ends with the same file name, so that writers which choose
        the format by the extension choose the right one.

    Raises:
        InputError: the file cannot be written here.
    """
    path = check_output(path)
    part = path.with_name(f".part-{uuid4().hex[:12]}-{path.name}")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"cannot write {path}: {reason}; check the folder's rights and the free space."
        ) from error
    finally:
        part.unlink(missing_ok=True)
