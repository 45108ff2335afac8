"""Folders for results, and the versions that a result depends on."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from stn3d.errors import InputError
from stn3d.io import STDOUT, input_at
from stn3d.io.texts import shown_path


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """A folder for results, created if needed.

    Raises:
        InputError: it cannot be created or written.
    """
    folder = Path(folder)
    if folder == STDOUT:
        raise InputError("stdout cannot take several files; give a folder as --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no folder can have this name"
        raise InputError(
            f"cannot make the folder {shown_path(folder)}: {reason}; give another --out."
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"the folder {folder} is not writable; give another --out.")
    return folder


@contextmanager
def results_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder for results, created before any work and removed if it is empty after it.

    Raises:
        InputError: see `make_folder`.
    """
    folder = Path(folder)
    made = [one for one in (folder, *folder.parents) if not os.path.exists(one)]
    try:
        yield make_folder(folder)
    finally:
        for one in made:
            with suppress(OSError):  # it is not empty, or was never made
                one.rmdir()


@contextmanager
def replaced_results(
    folder: Path, record: str, names: Iterable[str], inputs: Iterable[object] = ()
) -> Iterator[None]:
    """Write results in place of those of an earlier run, so that the folder holds one result.

    Files that the earlier run wrote, because its options were others, are removed once the new
    ones are complete. In a folder without results nothing is removed.

    Args:
        folder: folder of the results.
        record: file that every run writes.
        names: what runs with other options write and this one does not.
        inputs: what the run reads, as for `refuse_inputs`; inputs stay.

    Raises:
        InputError: a file cannot be removed.
    """
    holds_results, kept = os.path.isfile(folder / record), list(inputs)
    yield
    for path in [folder / name for name in names if holds_results]:
        try:
            if input_at(path, kept) is not None:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot remove {path} of an earlier run: {error.strerror}; remove it."
            ) from None


def versions() -> dict[str, str]:
    """Versions of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for name in ("stn3d", "torch", "numpy", "scipy", "nibabel", "simpleitk"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
