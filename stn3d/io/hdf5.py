"""Elements of ITK's HDF5 transform files: text, numbers and compressed vectors.

Vectors are stored with HDF5's standard filters shuffle and deflate. The chunks are filtered here
and written directly, because HDF5's own filters take five times as long and its lock prevents
files from being written in parallel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from stn3d.io.deflate import deflated

_CHUNK_NUMBERS = 1 << 20


@contextmanager
def written_file(path: Path) -> Iterator[h5py.File]:
    """A file to fill, which is written as a whole at the end.

    It is built in memory, because HDF5 crashes when the disk is full, some time after the error.

    Raises:
        OSError: it cannot be written.
    """
    with h5py.File(
        path, "w", libver="earliest", driver="core", backing_store=False, block_size=1 << 20
    ) as file:
        yield file
        file.flush()
        content = file.id.get_file_image()
    path.write_bytes(content)


def write_text(group: h5py.Group, name: str, text: str) -> None:
    """Write text as ITK does: an array of one string."""
    kind = h5py.string_dtype("ascii")
    group.create_dataset(name, data=np.array([text], dtype=object), dtype=kind, track_times=False)


def write_numbers(group: h5py.Group, name: str, values: list[float]) -> None:
    """Write a short list of numbers as float64."""
    group.create_dataset(name, data=np.array(values, dtype=np.float64), track_times=False)


def write_vectors(
    group: h5py.Group, name: str, vectors: NDArray[Any], signs: NDArray[np.float64]
) -> None:
    """Write a field as ITK does: float32, voxel by voxel, x fastest, components interleaved.

    Args:
        group: HDF5 group of the data set.
        name: name of the data set.
        vectors: ``(d, *shape)`` floating-point vectors.
        signs: ``(d,)`` factor of each component.
    """
    planes = vectors.shape[-1]
    plane = vectors.size // planes
    step = min(planes, max(1, _CHUNK_NUMBERS // plane))
    data = group.create_dataset(
        name,
        shape=(vectors.size,),
        dtype="<f4",
        chunks=(step * plane,),
        shuffle=True,
        compression="gzip",
        track_times=False,
    )
    for first in range(0, planes, step):
        numbers = _interleaved(vectors[..., first : first + step], signs)
        chunk = _shuffled(numbers, step * plane)
        data.id.write_direct_chunk((first * plane,), deflated(chunk, "zlib"))


def _interleaved(vectors: NDArray[Any], signs: NDArray[np.float64]) -> NDArray[np.float32]:
    """Components as float32 in the order of the file."""
    numbers = np.empty(vectors.shape[::-1], dtype="<f4")
    for axis, sign in enumerate(signs.tolist()):
        np.multiply(vectors[axis].T, sign, out=numbers[..., axis])
    return numbers.reshape(-1)


def _shuffled(numbers: NDArray[np.float32], length: int) -> memoryview:
    """HDF5's shuffle filter: all first bytes, then all second bytes, and so on, padded with 0.

    Bytes are extracted by bit shifts, which takes half the time of strided access.
    """
    planes = np.zeros((4, length), dtype=np.uint8)
    bits = numbers.view("<u4")
    for byte, plane in enumerate(planes):
        np.right_shift(bits, 8 * byte, out=plane[: bits.size], casting="unsafe")
    return planes.data
