"""X5 files, the format that BIDS drafts, by nitransforms.

Convention: transforms map fixed points to moving points in RAS+ millimetres, as here. The chain of
a file is applied in its order. nitransforms reads in a process of its own, since HDF5 can crash on
damaged files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, final

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import isolated
from stn3d.io.files import atomic_write
from stn3d.io.texts import shown_path
from stn3d.io.transforms.base import ReferenceImages, TransformFileFormat, has_suffix
from stn3d.io.transforms.fields import (
    affine_from,
    as_field,
    field_from,
    linear_matrix,
    vectors_of,
    without_velocity,
)
from stn3d.transforms import DisplacementField, Linear, Transform, chain

_KINDS = ("space", "space", "space", "vector")


@final
class X5(TransformFileFormat):
    """Linear transforms, displacement fields and chains of these."""

    name = "x5"
    suffixes = (".x5",)

    def recognises(self, path: Path) -> bool:
        return has_suffix(path, ".x5") and os.path.isfile(path)

    def read(self, path: Path, images: ReferenceImages) -> Transform:
        if not os.path.isfile(path):
            raise InputError(f"there is no transform file {shown_path(path)}; check the path.")
        arrays = []
        try:
            with isolated.reader(str(path), path.stat().st_size) as reader:
                answer = reader.ask("x5", str(path))
                nodes = answer.get("nodes", [])
                arrays = [reader.array(node["array"]) for node in nodes]
        except InputError as error:
            raise InputError(
                f"{path} cannot be read as a transform; give a complete X5 file."
            ) from error
        if "unknown" in answer:
            raise InputError(f"{path} holds {answer['unknown']}, which stn3d does not support.")
        return chain(*(_part(node, array, path) for node, array in zip(nodes, arrays, strict=True)))

    def write(self, path: Path, transform: Transform, images: ReferenceImages) -> list[Path]:
        from nitransforms.io.x5 import to_filename  # slow to import

        transform = without_velocity(transform)
        if not all(isinstance(part, Linear | DisplacementField) for part in transform.parts):
            transform = as_field(transform, images, f"the transform in {path.name}")
        if transform.ndim != 3:
            raise InputError(f"cannot write {path}: an X5 file maps 3D images.")
        nodes = [_node(part, images) for part in transform.parts]
        with atomic_write(path) as part:
            to_filename(part, nodes)
            with h5py.File(part, "r+") as file:
                order = "/".join(str(n) for n in range(len(nodes)))
                file.create_group("TransformChain").create_dataset("0", data=order)
        return [path]

    def outputs(self, path: Path) -> list[Path]:
        if has_suffix(path, ".x5"):
            return [path]
        raise InputError(f"cannot write {path} as X5: use the extension .x5.")


def _part(node: dict[str, Any], array: Any, path: Path) -> Transform:
    if "mapping" not in node:
        return affine_from(np.asarray(array, dtype=np.float64), path)
    try:
        grid = Grid(array.shape[:-1], torch.tensor(node["mapping"]))
    except InputError as error:
        raise InputError(f"{path} holds a field on no valid grid ({error})") from error
    if not node["relative"]:
        array = array - grid.points_mm().numpy()
    return field_from(array, grid, path)


def _node(part: Transform, images: ReferenceImages) -> Any:
    from nitransforms.io.x5 import X5Domain, X5Transform

    grid: Grid | None
    array: NDArray[Any]
    if isinstance(part, DisplacementField):
        grid, kind, array = part.grid, "nonlinear", vectors_of(part)
        names = {"subtype": "densefield", "representation": "displacements"}
    else:
        assert isinstance(part, Linear)
        grid, kind, array = images.fixed_grid, "linear", linear_matrix(part)
        names = {"subtype": "affine", "representation": "matrix"}
    domain = grid and X5Domain(
        grid=True,
        size=grid.shape,
        mapping=grid.world_from_index.numpy(),
        coordinates="cartesian",
    )
    return X5Transform(
        type=kind,
        transform=array,
        dimension_kinds=_KINDS,
        domain=domain or None,
        metadata={"WrittenBy": "stn3d"},
        **names,
    )
