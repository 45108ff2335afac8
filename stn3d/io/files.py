"""Writing of files: complete or not at all, through links, into pipes; never over an input.

An output is a path or ``-``, the standard output. Symbolic links are kept and their targets
replaced. Named pipes, ``-`` and open files such as ``/dev/stdout`` receive the complete content at
the end. Devices, sockets and write-protected files are refused.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from stn3d.errors import InputError
from stn3d.io.texts import shown_path

STDOUT = Path("-")
_DESCRIPTOR = re.compile(r"/(dev|proc/(self|thread-self|\d+)(/task/\d+)?)/fd/\d+")
_MAX_LINKS = 40
_KINDS = (
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


@dataclass(frozen=True)
class _Target:
    """Where the content of an output goes.

    Args:
        path: the file behind all symbolic links, or what to open for a stream.
        is_stream: whether to write into it, since it cannot be replaced.
    """

    path: Path
    is_stream: bool = False


def check_output(path: str | os.PathLike[str]) -> Path:
    """Check that a file can be written, before any computation.

    Args:
        path: output file; an existing file will be replaced. Or a named pipe, or ``-`` for the
            standard output.

    Returns:
        The path as a `Path`.

    Raises:
        InputError: the path is a folder, a device, a socket, write-protected or no valid name, or
            its folder does not exist or is not writable.
    """
    path = Path(path)
    _target_of(path)
    return path


def without_suffixes(name: str) -> str:
    """A file's name without its extension; without both of ``.nii.gz`` and the like."""
    stem = name[:-3] if name.lower().endswith(".gz") else name
    return stem.rpartition(".")[0] or stem


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether an output is written into, a pipe or the standard output, and not replaced.

    Raises:
        InputError: see `check_output`.
    """
    return _target_of(Path(path)).is_stream


def is_stdout(path: str | os.PathLike[str]) -> bool:
    """Whether an output is the standard output of this process, as ``-`` or by another name."""
    if Path(path) == STDOUT:
        return True
    try:
        return os.path.samestat(os.stat(path), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):
        return False


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[object]) -> None:
    """Make sure that no output is an input, under whatever name.

    Args:
        outputs: files to write.
        inputs: what is read, also in nested sequences; anything but paths is ignored. In a folder,
            all files are read.

    Raises:
        InputError: an output is an input.
    """
    read = list(_paths_in(inputs))
    for output in outputs:
        one = input_at(output, read)
        if one is not None:
            other = "" if output == one else f" ({one})"
            raise InputError(
                f"cannot write {output}: it is an input of this command{other}; give another "
                "output."
            )


def input_at(path: Path, inputs: Iterable[object]) -> Path | None:
    """The input that a path leads to, under whatever name; None if it leads to none.

    Args:
        path: a file.
        inputs: what is read, as in `refuse_inputs`.
    """
    for one in _paths_in(inputs):
        in_folder = os.path.isdir(one) and os.path.exists(path)
        if _same(path, one) or (in_folder and _same(path.parent, one)):
            return one
    return None


def _paths_in(inputs: Iterable[object]) -> Iterator[Path]:
    for one in inputs:
        if isinstance(one, str | os.PathLike):
            yield Path(one)
        elif isinstance(one, list | tuple):
            yield from _paths_in(one)


def _same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file: also by links, or by names that differ in case."""
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a temporary file in the same folder and rename it once it is complete.

    The content must not depend on the temporary name (gzip headers can hold one).

    Args:
        path: output file, see `check_output`; replaced in one step, or left unchanged on failure.

    Yields:
        Path of the temporary file. It ends with the same file name (of a very long one, the last 40
        characters), so writers that select the format by the extension work as usual.

    Raises:
        InputError: the file cannot be written.
    """
    path = Path(path)
    target = _target_of(path)
    try:
        with _streamed(target.path) if target.is_stream else _replaced(target.path, path) as part:
            yield part
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"cannot write {path}: {reason}; check the folder's permissions and the free space."
        ) from error


@contextmanager
def atomic_folder(path: str | os.PathLike[str], suffix: str) -> Iterator[Path]:
    """Write files into a temporary folder and rename it once all are complete.

    Args:
        path: output folder. An existing one must be empty or hold nothing but files with the
            extension, which are replaced all together.
        suffix: extension of the files, such as ``.dcm``.

    Yields:
        Path of the temporary folder beside it.

    Raises:
        InputError: the folder holds other files, or cannot be written.
    """
    path = check_folder(path, suffix)
    part, old = (path.with_name(f".{kind}-{uuid4().hex[:12]}") for kind in ("part", "old"))
    try:
        part.mkdir(parents=True)
        yield part
        if path.exists():
            os.replace(path, old)
        os.replace(part, path)
    except OSError as error:
        raise InputError(
            f"cannot write the folder {shown_path(path)}: {error.strerror or error}; check its "
            "permissions and the free space."
        ) from error
    finally:
        for one in (part, old):
            shutil.rmtree(one, ignore_errors=True)


def check_folder(path: str | os.PathLike[str], suffix: str) -> Path:
    """Check that `atomic_folder` can write a folder, before any computation.

    Raises:
        InputError: it is a file, or holds files without the extension.
    """
    path = Path(path)
    if not os.path.lexists(path):
        return path
    if not os.path.isdir(path):
        raise InputError(f"{shown_path(path)} is a file; give a folder for the {suffix} files.")
    others = [one.name for one in path.iterdir() if one.suffix.lower() != suffix]
    if others:
        raise InputError(
            f"the folder {shown_path(path)} holds other files, such as {others[0]}; give a new one."
        )
    return path


@contextmanager
def _replaced(path: Path, named: Path) -> Iterator[Path]:
    """A temporary file beside a file, which it replaces; an existing file's permissions stay."""
    part = _part_of(path, named)
    try:
        yield part
        with suppress(FileNotFoundError):
            part.chmod(stat.S_IMODE(path.stat().st_mode) & 0o777)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _part_of(path: Path, named: Path) -> Path:
    """Path of a temporary file beside a file, with the ending of the name that was given."""
    name = named.name if len(os.fsencode(named.name)) < 200 else named.name[-40:]
    return path.with_name(f".part-{uuid4().hex[:12]}-{name}")


@contextmanager
def _streamed(path: Path) -> Iterator[Path]:
    """A temporary file in a private folder, whose content goes into a stream."""
    with tempfile.TemporaryDirectory(prefix="stn3d-") as folder:
        part = Path(folder) / path.name
        yield part
        with part.open("rb") as content, _opened(path) as stream:
            shutil.copyfileobj(content, stream)


def _opened(path: Path) -> BinaryIO:
    if path == STDOUT:
        sys.stdout.flush()
        return open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)
    return path.open("wb")


def _target_of(path: Path) -> _Target:
    """Where the content goes; for the errors see `check_output`."""
    if path == STDOUT:
        return _Target(path, is_stream=True)
    behind = _behind_links(path)
    try:
        mode = os.stat(behind).st_mode
    except FileNotFoundError:
        _check_folder(path, behind.parent)
        return _Target(behind)
    except NotADirectoryError:
        raise _no_folder(path, behind.parent) from None
    except (OSError, ValueError) as error:  # a name that the file system cannot hold
        reason = getattr(error, "strerror", None) or "no file can have this name"
        raise InputError(
            f"cannot write {shown_path(path)}: {reason}; choose another path."
        ) from None
    if stat.S_ISDIR(mode):
        raise InputError(f"cannot write {path}: it is a folder; give the path of a file.")
    for is_kind, kind in _KINDS:
        if is_kind(mode):
            raise InputError(
                f"cannot write {path}: it is {kind}; give the path of a file, or - for the "
                "standard output."
            )
    if stat.S_ISFIFO(mode) or _DESCRIPTOR.fullmatch(str(behind)):
        return _Target(behind, is_stream=True)
    if not mode & 0o222:  # for root, too: such files are annexed or archived
        raise InputError(
            f"cannot write {path}: the file is write-protected; give another path, or make it "
            "writable."
        )
    _check_folder(path, behind.parent)
    return _Target(behind)


def _behind_links(path: Path) -> Path:
    """The path behind symbolic links, up to an open file of a process."""
    behind = path
    for _ in range(_MAX_LINKS):
        if _DESCRIPTOR.fullmatch(str(behind)):
            return behind
        try:
            behind = behind.parent / os.readlink(behind)
        except (OSError, ValueError):
            return behind
    raise InputError(f"cannot write {path}: its links lead in a circle; give another path.")


def _check_folder(path: Path, folder: Path) -> None:
    if not os.path.isdir(folder):
        raise _no_folder(path, folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(
            f"cannot write {path}: the folder {folder} is not writable; choose another one."
        )


def _no_folder(path: Path, folder: Path) -> InputError:
    return InputError(f"cannot write {path}: there is no folder {folder}; create it first.")
