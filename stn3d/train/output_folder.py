"""The folder of a run: its files, what an interrupted run leaves, and what it may not hold."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from stn3d.errors import InputError
from stn3d.io import refuse_inputs
from stn3d.io.texts import shown_path
from stn3d.train.history import HISTORY

LAST, BEST = "last.ckpt.safetensors", "best.ckpt.safetensors"
MODEL, METRICS = "model.safetensors", "metrics.json"
_FILES = (LAST, BEST, MODEL, HISTORY, METRICS)


def prepare_output_dir(
    folder: str | Path, resume: bool = True, writes: bool = True, inputs: Iterable[object] = ()
) -> Path:
    """Create the output folder of a run and remove stale files.

    Partial files of a killed run are removed; without ``resume`` also its checkpoints, history and
    TensorBoard events.

    Args:
        folder: The output folder.
        resume: Keep the files of an earlier run.
        writes: Whether this process may remove files.
        inputs: What the run reads: files such as weights, folders of images, and pairs as
            `stn3d.data.read_pairs` returns them; empty texts are ignored.

    Raises:
        InputError: The folder cannot be created, holds images that the run reads, or a file of the
            run would replace an input.
    """
    folder = Path(folder)
    _refuse_inputs(folder, inputs)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no folder can have this name"
        raise InputError(f"cannot create the folder {shown_path(folder)}: {reason}.") from error
    if writes:
        stale = list(folder.glob(".part-*"))
        if not resume:
            stale += [folder / name for name in (LAST, BEST, HISTORY)]
            stale += folder.glob("events.out.tfevents.*")
        for file in stale:
            file.unlink(missing_ok=True)
    return folder


def _refuse_inputs(folder: Path, inputs: Iterable[object]) -> None:
    """Make sure that a run keeps away from what it reads.

    Raises:
        InputError: see `prepare_output_dir`.
    """
    listed = list(inputs)
    files = [one for one in listed if isinstance(one, str | os.PathLike) and os.path.isfile(one)]
    refuse_inputs([folder / name for name in _FILES], files)
    for path in _data(listed):
        if _contains(folder, path):
            raise InputError(
                f"cannot write into {shown_path(folder)}: it holds the input {shown_path(path)}; "
                "give another output_dir."
            )


def _data(inputs: Iterable[object]) -> Iterator[Path]:
    """Folders of data, and all files of pairs."""
    for one in inputs:
        if isinstance(one, Mapping):
            yield from (Path(file) for file in one.values() if isinstance(file, str))
        elif isinstance(one, list | tuple):
            yield from _data(one)
        elif isinstance(one, str | os.PathLike) and os.fspath(one) and os.path.isdir(one):
            yield Path(one)


def _contains(folder: Path, path: Path) -> bool:
    """Whether a path is a folder or lies in it, at any depth and under whatever name."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):
        return False
