"""What ITK's HDF5 transform files are made of: texts, numbers and compressed vectors.

Vectors pass HDF5's standard filters, shuffle and deflate. Both are done here and the chunks are
handed over as they will stand in the file: HDF5 itself would take five times as long, and one
file would wait for the other.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from stn3d.io.deflate import deflated

_CHUNK_NUMBERS = 1 << 20


def write_text(group: h5py.Group, name: str, text: str) -> None:
    """Write a text as ITK does: an array of one string."""
    kind = h5py.string_dtype("ascii")
    group.create_dataset(name, data=np.array([text], dtype=object), dtype=kind, track_times=False)


def write_numbers(group: h5py.Group, name: str, values: list[float]) -> None:
    """Write a short list of numbers in 64 bits."""
    group.create_dataset(name, data=np.array(values, dtype=np.float64), track_times=False)


def write_vectors(
    group: h5py.Group, name: str, vectors: NDArray[Any], signs: NDArray[np.float64]
) -> None:
    """Write a field as ITK does: voxel by voxel, x fastest, the components together, in 32 bits.

    Args:
        group: where to write.
        name: of the data set.
        vectors: ``(d, *shape)``, floating.
        signs: ``(d,)`` factors of the components.
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
    """Float32 numbers in the order of the file."""
    numbers = np.empty(vectors.shape[::-1], dtype="<f4")
    for axis, sign in enumerate(signs.tolist()):
        np.multiply(vectors[axis].T, sign, out=numbers[..., axis])
    return numbers.reshape(-1)


def _shuffled(numbers: NDArray[np.float32], length: int) -> memoryview:
    """HDF5's shuffle filter of a chunk: all first bytes, then all second bytes, ...; 0 at its end.

    The bytes are taken by shifting, which is twice as fast as by strides.
    """
    planes = np.zeros((4, length), dtype=np.uint8)
    bits = numbers.view("<u4")
    for byte, plane in enumerate(planes):
        np.right_shift(bits, 8 * byte, out=plane[: bits.size], casting="unsafe")
    return planes.data
