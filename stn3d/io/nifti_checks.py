"""Checks of NIfTI, Analyze and MGH headers before nibabel reads them, and their repair after.

nibabel raises errors of many kinds for damaged headers, reads voxels from anywhere in the file, and
decompresses an MGZ file to its announced end.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from stn3d.errors import InputError
from stn3d.io.deflate import DAMAGED, open_gzip
from stn3d.io.limits import check_length, check_memory

MGH_SUFFIXES = (".mgh", ".mgz")
_GZIPPED = (".gz", ".mgz")
_HEADER_BYTES = {348: 352, 540: 544}  # of NIfTI 1 and 2, with the four bytes that follow
_MGH_DATA_OFFSET = 284
_MGH_TYPE_BYTES = {0: 1, 1: 4, 3: 4, 4: 2, 10: 2}
_UNITS_OF_SPACE = (0, 1, 2, 3)
_UNITS_OF_TIME = (0, 8, 16, 24, 32, 40, 48)
_MAX_VOXELS = 1 << 60


def check_file(path: Path) -> None:
    """Check what the header of a file announces against the length of the file.

    Raises:
        InputError: the header is damaged, or the file is shorter than it says.
    """
    name = path.name.lower()
    if name.endswith(MGH_SUFFIXES):
        _check_mgh(path)
        return
    header_path, data_path = path, path
    if ".img" in name[-7:] or ".hdr" in name[-7:]:
        header_path, data_path = _pair(path)
    if not (header_path.is_file() and data_path.is_file()):
        return  # nibabel says what is missing
    block = _beginning(header_path, max(_HEADER_BYTES))
    if len(block) < min(_HEADER_BYTES):
        raise _invalid(path, "it is shorter than a header")
    kind = nib.Nifti2Header if _size_field(block) == 540 else nib.Nifti1Header
    header = kind(block[: kind.sizeof_hdr].ljust(kind.sizeof_hdr, b"\0"), check=False)
    shape = _shape(header, path)
    offset = _offset(header, path, single=header_path == data_path)
    try:
        bytes_per_voxel = header.get_data_dtype().itemsize
    except Exception as error:  # an unknown code, or one without a numpy type
        raise _invalid(path, f"its data type {int(header['datatype'])} is unknown") from error
    packed = data_path.name.lower().endswith(_GZIPPED)
    check_length(data_path, math.prod(shape) * bytes_per_voxel, packed, offset)


def usable(header: nib.Nifti1Header) -> tuple[nib.Nifti1Header, str | None]:
    """A copy of a header without values that the format does not define.

    Returns:
        The header, and what was ignored for want of a meaning, if it changes positions.

    Raises:
        ValueError: there is no sform, and the qform is not a rotation.
    """
    header, note = header.copy(), None
    code = int(header["xyzt_units"])
    space, time = code & 7, code & 56
    if space not in _UNITS_OF_SPACE:
        note = f"the unknown unit of length {space} in xyzt_units is taken as millimetres"
    header["xyzt_units"] = (space if space in _UNITS_OF_SPACE else 2) | (
        time if time in _UNITS_OF_TIME else 0
    )
    if int(header["qform_code"]) > 0:
        try:
            valid = bool(np.isfinite(header.get_qform()).all())
        except Exception:  # nibabel's ways of rejecting quaternions
            valid = False
        if not valid and int(header["sform_code"]) <= 0:
            raise ValueError("its qform is not a rotation and there is no sform")
        if not valid:
            header["qform_code"] = 0
            note = note or "its qform is not a rotation, so the sform alone is used"
    for name in ("pixdim", "toffset", "quatern_b", "quatern_c", "quatern_d"):
        header[name] = np.nan_to_num(header[name], nan=0.0, posinf=0.0, neginf=0.0)
    return header, note


def _check_mgh(path: Path) -> None:
    block = _beginning(path, _MGH_DATA_OFFSET)
    if len(block) < _MGH_DATA_OFFSET:
        raise _invalid(path, "it is shorter than a header")
    version, *sizes = (int(n) for n in np.frombuffer(block, ">i4", 5))
    if version != 1:
        raise _invalid(path, f"its version is {version}, not 1")
    if min(sizes) < 1 or math.prod(sizes) > _MAX_VOXELS:
        raise _invalid(path, f"its size is {_told(sizes)}")
    kind = int(np.frombuffer(block, ">i4", 1, offset=20)[0])
    if kind not in _MGH_TYPE_BYTES:
        raise _invalid(path, f"its data type {kind} is not supported")
    size = _MGH_TYPE_BYTES[kind]
    check_memory(str(path), sizes[:3], size + 4, path.stat().st_size)
    data_bytes = math.prod(sizes) * size
    check_length(path, data_bytes, path.name.lower().endswith(_GZIPPED), _MGH_DATA_OFFSET)


def _beginning(path: Path, count: int) -> bytes:
    """The first bytes of a file, decompressed."""
    try:
        packed = path.name.lower().endswith(_GZIPPED)
        with open_gzip(path) if packed else open(path, "rb") as file:
            content: bytes = file.read(count)
    except DAMAGED as error:
        raise _invalid(path, "its beginning is damaged; check its extension") from error
    return content


def _pair(path: Path) -> tuple[Path, Path]:
    """Header and data file of an Analyze or NIfTI pair."""
    packed = path.suffix if path.suffix.lower() == ".gz" else ""
    stem = path.with_suffix("") if packed else path
    upper = stem.suffix.isupper()
    found = [stem.with_suffix(s.upper() if upper else s) for s in (".hdr", ".img")]
    header, data = (Path(f"{one}{packed}") for one in found)
    return (header if header.is_file() else found[0]), (data if data.is_file() else found[1])


def _size_field(block: bytes) -> int:
    sizes = (int(np.frombuffer(block, order + "i4", 1)[0]) for order in "<>")
    return next((size for size in sizes if size in _HEADER_BYTES), 0)


def _shape(header: Any, path: Path) -> list[int]:
    dims = [int(n) for n in header["dim"]]
    sizes = dims[1 : dims[0] + 1]
    if not 1 <= dims[0] <= 7 or min(sizes) < 1 or math.prod(sizes) > _MAX_VOXELS:
        raise _invalid(path, f"its size is {_told(sizes) or dims[0]}")
    return sizes


def _offset(header: Any, path: Path, single: bool) -> int:
    """Position of the voxels in the file."""
    offset = float(header["vox_offset"])
    least = _HEADER_BYTES[header.sizeof_hdr] if single else 0
    if not math.isfinite(offset) or offset < least or offset > _MAX_VOXELS:
        raise _invalid(path, f"its voxels begin at byte {offset:g}, not at {least} or beyond")
    return int(offset)


def _told(sizes: list[int]) -> str:
    return " x ".join(str(n) for n in sizes)


def _invalid(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path} cannot be read as an image ({reason}); "
        "check that it is complete and that its extension is right."
    )
