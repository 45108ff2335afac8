"""Reads files with SimpleITK or HDF5 in a process of its own; `stn3d.io.isolated` starts it.

Their readers of images and transforms can crash on damaged files, allocate without bound, or never
end. This process has limits of memory and CPU time, and its death harms nobody. It runs as a script
and imports nothing slow of stn3d; `parts_of` is also called for transforms in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import SimpleITK as sitk

from stn3d.child_process import Answer, RefusedError, serve

_WITH_OTHER_FILES = ("MetaImageIO", "NrrdImageIO", "NiftiImageIO")  # read elsewhere, with checks
_MAX_NESTING = 8
_MAX_NODES = 64


# -- images ---------------------------------------------------------------------------------------


def header(path: str) -> Answer:
    """Size and type of an image, before its voxels are read."""
    reader = _reader(path)
    reader.ReadImageInformation()
    pixel = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    words = {"8": 1, "16": 2, "32": 4, "64": 8}
    size = next((n for bits, n in words.items() if bits in pixel), 8)
    return {
        "shape": reader.GetSize(),
        "components": reader.GetNumberOfComponents(),
        "bytes": size,
        "kind": "complex numbers" if "complex" in pixel else "vectors",
    }, []


def image(path: str) -> Answer:
    """Voxels and geometry of an image."""
    found = _reader(path).Execute()
    return {
        "origin": found.GetOrigin(),
        "spacing": found.GetSpacing(),
        "direction": found.GetDirection(),
        **_described(sitk.GetArrayViewFromImage(found)),
    }, [lambda: sitk.GetArrayViewFromImage(found)]


def stack(paths: list[str]) -> Answer:
    """Slices of a DICOM series, in the order given, each with its own rescaling."""
    slices = [sitk.GetArrayFromImage(_reader(path).Execute()) for path in paths]
    first = slices[0].shape
    if any(array.shape != first for array in slices):
        raise RefusedError("its slices differ in size")
    dtype = np.result_type(*{array.dtype for array in slices})
    arrays: Iterator[Any] = (array.astype(dtype, copy=False) for array in slices)
    shape = [len(slices), *(first[1:] if first[0] == 1 else first)]
    return {"shape": shape, "dtype": dtype.str}, list(arrays)


def _reader(path: str) -> Any:
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    if reader.GetImageIOFromFileName(path) in _WITH_OTHER_FILES:
        raise RefusedError("its extension does not fit its content")
    return reader


def _described(array: Any) -> dict[str, Any]:
    return {"shape": array.shape, "dtype": array.dtype.str}


# -- transforms -----------------------------------------------------------------------------------


def transform(path: str) -> Answer:
    """Parts of the transform of a file, see `parts_of`."""
    try:
        found = sitk.ReadTransform(path)
    except (KeyError, TypeError):  # raised by SimpleITK for an unknown class
        return {"unknown": "transform of an unknown class"}, []
    return parts_of(found)


def parts_of(found: Any) -> Answer:
    """Parts of a transform in order of application: matrices, and fields with their geometry."""
    parts: list[dict[str, Any]] = []
    arrays: list[Any] = []
    for part in _flat(found):
        if isinstance(part, str):
            return {"unknown": part}, []
        if part.IsLinear():
            parts.append({"matrix": _matrix(part)})
            continue
        field = part.GetDisplacementField()
        vectors = sitk.GetArrayFromImage(field).astype("<f4", copy=False)
        geometry = {
            "origin": field.GetOrigin(),
            "spacing": field.GetSpacing(),
            "direction": field.GetDirection(),
        }
        parts.append({"field": {**geometry, **_described(vectors)}})
        arrays.append(vectors)
    return {"parts": parts}, arrays


def _flat(found: Any, depth: int = 0) -> Iterator[Any]:
    """Linear transforms and fields; a name in place of a transform of another kind."""
    if found.IsLinear():
        yield found
        return
    found = found.Downcast()
    kind = found.GetTransformEnum()
    # SimpleITK represents an unknown class as a composite that contains itself.
    if kind == sitk.sitkComposite and depth < _MAX_NESTING:
        for n in reversed(range(found.GetNumberOfTransforms())):
            yield from _flat(found.GetNthTransform(n), depth + 1)
    elif kind == sitk.sitkDisplacementField:
        yield found
    else:
        yield "transform of an unknown class" if kind == sitk.sitkComposite else found.GetName()


def _matrix(linear: Any) -> list[list[float]]:
    """``(d + 1, d + 1)`` LPS matrix, from the images of the origin and of a point per axis."""
    d = linear.GetDimension()
    origin = np.array(linear.TransformPoint([0.0] * d))
    matrix = np.eye(d + 1)
    for axis, point in enumerate(np.eye(d).tolist()):
        matrix[:d, axis] = np.array(linear.TransformPoint(point)) - origin
    matrix[:d, d] = origin
    rows: list[list[float]] = matrix.tolist()
    return rows


# -- X5 -------------------------------------------------------------------------------------------


def x5(path: str) -> Answer:
    """Transforms of an X5 file in order of application, read by nitransforms."""
    import h5py
    from nitransforms.io.x5 import from_filename

    found = from_filename(path)
    with h5py.File(path, "r") as file:
        chains = file.get("TransformChain")
        order = None if chains is None else chains["0"][()].decode()
    if order is None and len(found) != 1:
        return {"unknown": f"{len(found)} transforms without a chain"}, []
    nodes: list[dict[str, Any]] = []
    arrays: list[Any] = []
    for number in (order or "0").split("/")[:_MAX_NODES]:
        node = found[int(number)]
        linear = node.type == "linear"
        if node.array_length != 1 or (not linear and node.subtype != "densefield"):
            return {"unknown": f"a transform {node.type} ({node.subtype})"}, []
        array = np.asarray(node.transform, dtype="<f8" if linear else "<f4")
        if array.ndim != (2 if linear else 4) or array.shape[-1] != (4 if linear else 3):
            raise RefusedError("its arrays have other shapes than they should")
        nodes.append({"array": _described(array)})
        if not linear:
            relative = node.representation != "deformations"
            mapping = np.asarray(node.domain.mapping, dtype=float).tolist()
            nodes[-1].update(mapping=mapping, relative=relative)
        arrays.append(array)
    return {"nodes": nodes}, arrays


# -- process --------------------------------------------------------------------------------------

_REQUESTS: dict[str, Callable[[Any], Answer]] = {
    "header": header,
    "image": image,
    "stack": stack,
    "transform": transform,
    "x5": x5,
}


if __name__ == "__main__":
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    serve(_REQUESTS)
