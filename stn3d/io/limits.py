"""Memory that reading a file may use, checked against its header before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from stn3d.errors import InputError
from stn3d.memory.free import free_gb

_GB = 2**30
MAX_DEFLATE_RATIO = 1032  # deflate cannot compress further, see zlib's technical details

# A small file may take this much memory; a larger one this many times its size.
_SMALL_FILE_BYTES = 2 * _GB
_MAX_EXPANSION = 2 * MAX_DEFLATE_RATIO


def check_memory(name: str, shape: Sequence[int], bytes_per_voxel: int, file_bytes: int) -> None:
    """Check that an array can be read.

    Args:
        name: name of the file in messages.
        shape: shape of the array.
        bytes_per_voxel: peak memory per voxel, including conversions.
        file_bytes: size of the file.

    Raises:
        InputError: the array does not fit into the free memory, or the file is so small that it
            can hold little but one value (a decompression bomb).
    """
    needed = math.prod(int(n) for n in shape) * bytes_per_voxel
    size = " x ".join(str(n) for n in shape)
    free = free_gb()
    if free is not None and needed > free * _GB:
        raise InputError(
            f"{name} has {size} voxels, which need {_told(needed)} of memory, and "
            f"{_told(free * _GB)} are free; crop or resample it, or use a larger machine."
        )
    if needed > max(_SMALL_FILE_BYTES, _MAX_EXPANSION * file_bytes):
        raise InputError(
            f"{name} is a file of {_told(file_bytes)} whose header announces {size} voxels "
            f"({_told(needed)}); almost all of it would be one value: check the header, or crop it."
        )


def check_length(path: Path, data_bytes: int, compressed: bool, offset: int = 0) -> None:
    """Check that a file is long enough for the data that its header announces.

    Args:
        path: file that holds the data.
        data_bytes: length of the data, decompressed.
        compressed: whether the file is compressed with deflate.
        offset: length of what precedes the data.

    Raises:
        InputError: the file is too short, so it is truncated or its header is wrong.
    """
    longest = path.stat().st_size * (MAX_DEFLATE_RATIO if compressed else 1)
    if offset + data_bytes > longest:
        raise InputError(
            f"{path} is truncated, or its header is damaged: it announces {_told(data_bytes)} of "
            f"voxels, and the file has {_told(path.stat().st_size)}; copy or download it again."
        )


def _told(count: float) -> str:
    """Number of bytes in a unit that suits it."""
    for unit, size in (("GB", _GB), ("MB", 2**20), ("KB", 2**10)):
        if count >= size:
            return f"{count / size:.3g} {unit}" if count < 1000 * _GB else f"{count / size:.1e} GB"
    return f"{count:.0f} bytes"
