"""A transform with a known answer by SimpleITK, and surfaces and streamlines to map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from stn3d.grid import Grid, homogeneous
from stn3d.io import PointMap, write_transform
from stn3d.transforms import Affine, DisplacementField, Transform, chain
from tests.helpers import sitk_reference as reference

Points = NDArray[np.float64]
GRID = Grid((20, 20, 20), homogeneous(4 * torch.eye(3).double(), torch.full((3,), -38.0).double()))


def affine(mirrored: bool = False) -> Affine:
    """A shear with a translation; mirrored along x on request."""
    matrix = torch.tensor([[1.0, 0.2, 0], [-0.1, 0.9, 0.05], [0, 0.1, 1.1]], dtype=torch.float64)
    if mirrored:
        matrix[:, 0] *= -1
    return Affine.from_matrix(homogeneous(matrix, torch.tensor([5.0, -3, 2]).double()))


def deformable() -> Transform:
    """A smooth field on `GRID`, then the shear."""
    x, y, z = GRID.points_mm().unbind(-1)
    field = torch.stack([3 * torch.sin(y / 15), 2 * torch.cos(z / 12), 2 * torch.sin(x / 10)])
    return chain(DisplacementField(field[None].float(), GRID), affine())


def by_itk(transform: Transform, points: Points, folder: Path) -> Points:
    """Points in RAS after a transform, by SimpleITK."""
    write_transform(folder / "reference.h5", transform)
    read = sitk.ReadTransform(str(folder / "reference.h5"))
    found: Points = reference.mapped(read, torch.from_numpy(points)).numpy()
    return found


def sphere(radius: float = 20.0) -> tuple[Points, NDArray[np.int64]]:
    """Vertices of an octahedron divided twice, on a sphere, and triangles wound outward."""
    points = list(np.concatenate([np.eye(3), -np.eye(3)]))
    faces = [(0, 1, 2), (1, 3, 2), (3, 4, 2), (4, 0, 2), (1, 0, 5), (3, 1, 5), (4, 3, 5), (0, 4, 5)]
    for _ in range(2):
        known: dict[tuple[int, int], int] = {}

        def middle(a: int, b: int, known: dict[tuple[int, int], int] = known) -> int:
            key = (min(a, b), max(a, b))
            if key not in known:
                known[key] = len(points)
                points.append(points[a] + points[b])
            return known[key]

        faces = [
            new
            for a, b, c in faces
            for new in (
                (a, middle(a, b), middle(c, a)),
                (b, middle(b, c), middle(a, b)),
                (c, middle(c, a), middle(b, c)),
                (middle(a, b), middle(b, c), middle(c, a)),
            )
        ]
    vertices = np.array([radius * p / np.linalg.norm(p) for p in points])
    return vertices.astype(np.float32).astype(np.float64), np.array(faces)


def volume(vertices: Points, triangles: NDArray[np.int64]) -> float:
    """Signed volume of a closed surface: positive if its triangles are wound outward."""
    a, b, c = (vertices[triangles[:, n]] for n in range(3))
    return float(np.einsum("na,na->n", a, np.cross(b, c)).sum() / 6)


def facet_normals(vertices: Points, triangles: NDArray[np.int64]) -> Points:
    """Unit normals of triangles."""
    a, b, c = (vertices[triangles[:, n]] for n in range(3))
    found: Points = np.cross(b - a, c - a)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def point_map(transform: Transform | None = None) -> PointMap:
    """A map of points."""
    return PointMap(transform or deformable())
