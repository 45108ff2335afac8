"""DICOM series and multi-frame files.

Headers are read by pydicom, voxels by SimpleITK in a process of its own. If SimpleITK cannot read
the voxels and dcm2niix is on the PATH, it converts the series.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn3d.errors import GeometryWarning, InputError
from stn3d.io import isolated, nifti
from stn3d.io.colours import colours_of
from stn3d.io.dicom_slices import Slice, is_dicom, slices_of
from stn3d.io.dicom_stack import stacked
from stn3d.io.limits import check_memory
from stn3d.io.nifti import Stored

_CONVERSION_S = 600
_BYTES_PER_VOXEL = 8  # as stored, and as float32


def series_in(folder: Path) -> list[Slice]:
    """Slices of the only DICOM series in a folder.

    Raises:
        InputError: the folder holds no series, or several.
    """
    series: dict[str, list[Slice]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if path.is_file() and is_dicom(path):
            for one in slices_of(path):
                series[one.series].append(one)
    if not series:
        raise InputError(f"the folder {folder} holds no DICOM series; give an image file.")
    if len(series) > 1:
        counts = {uid: len({one.path for one in slices}) for uid, slices in series.items()}
        listing = ", ".join(f"{uid} ({count} files)" for uid, count in counts.items())
        raise InputError(
            f"the folder {folder} holds {len(series)} DICOM series; "
            f"copy the series to use into a separate folder: {listing}."
        )
    return next(iter(series.values()))


def note_single_slice(slices: Sequence[Slice], path: Path) -> None:
    """Warn if a file is one slice of a series whose other slices lie beside it."""
    if len(slices) != 1 or not slices[0].series:
        return
    others = 0
    for file in path.parent.iterdir():
        if file != path and file.is_file() and is_dicom(file):
            with suppress(InputError):
                others += any(one.series == slices[0].series for one in slices_of(file))
    if others:
        warnings.warn(
            f"{path} is one slice of a series of {others + 1} files; give the folder {path.parent} "
            "to read all of them.",
            GeometryWarning,
            stacklevel=2,
        )


def load(slices: Sequence[Slice], path: Path) -> Stored | None:
    """Read a stack of slices on the grid that their positions define.

    Args:
        slices: slices of one series or of a multi-frame file.
        path: the folder or file, for messages.

    Returns:
        The image, of several volumes for time points; None for a single slice, and for a
        multi-frame file without positions.

    Raises:
        InputError: the slices form no regular grid, or cannot be read.
    """
    if len(slices) < 2:
        return None
    if all(one.position is None for one in slices) and slices[0].path == slices[-1].path:
        warnings.warn(
            f"the {len(slices)} frames of {path} have no positions (0020,9113): they are assumed "
            "to be a straight stack.",
            GeometryWarning,
            stacklevel=2,
        )
        return None
    stack = stacked(slices, str(path))
    try:
        array = _voxels([one for volume in stack.volumes for one in volume], str(path))
    except InputError as error:
        return _by_dcm2niix(path, error)
    if len(stack.volumes) == 1:
        return nifti.in_memory(array, stack.affine, str(path))
    array = np.moveaxis(array.reshape(*array.shape[:2], len(stack.volumes), -1), 2, 3)
    return nifti.in_memory(array, stack.affine, str(path), interval_s=stack.interval_s)


def _voxels(slices: Sequence[Slice], name: str) -> NDArray[Any]:
    """Array (column, row, slice) of slices in this order, one volume after another."""
    columns, rows = slices[0].size
    shape = (columns, rows, len(slices))
    paths = list(dict.fromkeys(str(one.path) for one in slices))
    file_bytes = sum(Path(path).stat().st_size for path in paths)
    check_memory(name, shape, _BYTES_PER_VOXEL, file_bytes)
    with isolated.reader(name, file_bytes) as reader:
        one_file = len(paths) == 1
        answer = reader.ask("image" if one_file else "stack", paths[0] if one_file else paths)
        array = reader.array(answer)
    if array.ndim > 3:
        colours = colours_of(array)
        if colours is None:
            raise InputError(f"{name} holds vectors; convert it to one scalar per voxel.")
        array = colours
    if array.shape != shape[::-1]:
        raise InputError(f"the slices of {name} do not fit together; convert it to .nii.gz.")
    frames = [one.frame for one in slices]
    if one_file and frames != list(range(len(frames))):
        array = array[frames]
    return np.transpose(array)


def _by_dcm2niix(path: Path, error: InputError) -> Stored:
    """The series converted by dcm2niix, if it is installed; otherwise the error."""
    program = shutil.which("dcm2niix")
    if program is None:
        raise InputError(f"{str(error).rstrip('.')} (for example with dcm2niix).") from error
    with tempfile.TemporaryDirectory() as folder:
        single = [] if path.is_dir() else ["-s", "y"]
        command = [program, *single, "-b", "n", "-z", "n", "-f", "image", "-o", folder, str(path)]
        try:
            subprocess.run(command, capture_output=True, check=True, timeout=_CONVERSION_S)
            (converted,) = Path(folder).glob("*.nii")
        except (OSError, ValueError, subprocess.SubprocessError):
            raise error from None
        stored = nifti.load(converted)
        array = np.array(stored.array[...])
    warnings.warn(
        f"{path} was converted by dcm2niix, because SimpleITK cannot read it.",
        GeometryWarning,
        stacklevel=2,
    )
    return replace(stored, array=array, name=str(path))
