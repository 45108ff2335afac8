"""FreeSurfer's LTA files: linear transforms with the geometry of both images.

Convention: the matrix maps points of the source (the moving image) to points of the destination
(the fixed image), in voxel indices (type 0) or in RAS+ millimetres (type 1). Each geometry holds
the world position of the point at half the shape, which is half a voxel beyond the central index.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import final

import numpy as np
import torch

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io.files import atomic_write
from stn3d.io.geometry import Matrix
from stn3d.io.texts import read_text
from stn3d.io.transforms.base import ReferenceImages, TransformFileFormat, beginning, has_suffix
from stn3d.io.transforms.fields import affine_from, inverted_matrix, require_linear
from stn3d.transforms import Transform

_VOX_TO_VOX, _RAS_TO_RAS = 0, 1
_OTHER_TYPES = {
    2: "scaled voxels",
    14: "register.dat (tkregister) coordinates",
    21: "coronal 256 x 256 x 256 coordinates",
}
_MORPHS = (".m3z", ".m3d", ".mgz", ".mgh")
_ADVICE = "give a complete LTA file"


@final
class FreeSurfer(TransformFileFormat):
    """LTA files."""

    name = "freesurfer"
    suffixes = (".lta",)

    def recognises(self, path: Path) -> bool:
        if has_suffix(path, ".lta", *_MORPHS[:2]):
            return os.path.isfile(path)
        return beginning(path, 2048).lstrip().startswith((b"# transform file", b"# LTA"))

    def read(self, path: Path, images: ReferenceImages) -> Transform:
        if has_suffix(path, *_MORPHS):
            raise InputError(
                f"{path} is a non-linear morph of FreeSurfer, whose format no library documents; "
                "convert it: mri_warp_convert --inm3z MORPH.m3z --outitk WARP.nii.gz."
            )
        lta = _Lta(path)
        inverse = affine_from(inverted_matrix(lta.moving_to_fixed(images), path), path)
        lta.check_direction(images)
        return inverse

    def write(self, path: Path, transform: Transform, images: ReferenceImages) -> list[Path]:
        world = require_linear(transform, path, "an LTA file")
        fixed, moving = images.require_both("an LTA file")
        if fixed.ndim != 3 or moving.ndim != 3 or len(world) != 4:
            raise InputError(f"cannot write {path}: an LTA file maps 3D images; give volumes.")
        lines = [
            "# transform file written by stn3d",
            f"type      = {_RAS_TO_RAS} # LINEAR_RAS_TO_RAS",
            "nxforms   = 1",
            "mean      = 0.0000 0.0000 0.0000",
            "sigma     = 1.0000",
            "1 4 4",
            *(" ".join(f"{n:.17e}" for n in row) for row in np.linalg.inv(world).tolist()),
            *_geometry_lines("src", moving),
            *_geometry_lines("dst", fixed),
        ]
        with atomic_write(path) as part:
            part.write_text("\n".join(lines) + "\n", encoding="ascii")
        return [path]

    def outputs(self, path: Path) -> list[Path]:
        if has_suffix(path, ".lta"):
            return [path]
        raise InputError(
            f"cannot write {path} for FreeSurfer: use .lta, for a linear transform; deformations "
            "go through ITK's format and mri_warp_convert --initk."
        )


class _Lta:
    """The content of an LTA file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        text = read_text(path, "transform file", _ADVICE, 1)
        lines = [line.split("#")[0].strip() for line in text.splitlines()]
        self._lines = [line for line in lines if line]
        count = self._numbers("nxforms", 1)[0]
        if count != 1:
            raise InputError(f"{path} holds {count:g} transforms; give a file with one.")
        self.type = int(self._numbers("type", 1)[0])
        self.matrix = self._matrix()

    def moving_to_fixed(self, images: ReferenceImages) -> Matrix:
        """The matrix between RAS+ millimetres."""
        if self.type == _RAS_TO_RAS:
            return self.matrix
        if self.type != _VOX_TO_VOX:
            kind = _OTHER_TYPES.get(self.type, "an unknown kind")
            raise InputError(
                f"{self.path} maps {kind} (type {self.type}), which stn3d does not read; convert "
                "it: lta_convert --inlta IN.lta --outlta OUT.lta."
            )
        source = self.geometry("src") or images.moving_grid
        destination = self.geometry("dst") or images.fixed_grid
        if source is None or destination is None:
            images.require_both(f"{self.path}, whose geometry is marked as invalid,")
        assert source is not None
        assert destination is not None
        found: Matrix = (
            destination.world_from_index.numpy() @ self.matrix @ source.index_from_world.numpy()
        )
        return found

    def check_direction(self, images: ReferenceImages) -> None:
        """Refuse a file whose images are the given ones with their roles exchanged.

        Raises:
            InputError: the source is the fixed image and the destination the moving one.
        """
        source, destination = self.geometry("src"), self.geometry("dst")
        fixed, moving = images.fixed_grid, images.moving_grid
        if source is None or destination is None or fixed is None or moving is None:
            return
        if source.same_as(moving, 0.1) or destination.same_as(fixed, 0.1):
            return
        if source.same_as(fixed, 0.1) and destination.same_as(moving, 0.1):
            raise InputError(
                f"{self.path} maps the fixed image onto the moving one, by the geometries that it "
                f"holds; give it as inverse:{self.path}, or exchange the images."
            )

    def geometry(self, role: str) -> Grid | None:
        """Grid of the source or the destination; None if it is marked as invalid."""
        try:
            start = self._lines.index(f"{role} volume info") + 1
        except ValueError:
            return None
        if self._numbers("valid", 1, start)[0] != 1:
            return None
        shape = self._numbers("volume", 3, start)
        spacing = np.array(self._numbers("voxelsize", 3, start))
        cosines = np.array([self._numbers(f"{axis}ras", 3, start) for axis in "xyz"]).T
        centre = np.array(self._numbers("cras", 3, start))
        matrix = np.eye(4)
        matrix[:3, :3] = cosines * spacing
        matrix[:3, 3] = centre - matrix[:3, :3] @ np.array(shape) / 2
        if not all(n == int(n) for n in shape):
            raise self._error("volume")
        try:
            return Grid(tuple(int(n) for n in shape), torch.from_numpy(matrix))
        except InputError:
            raise self._error(f"{role} volume info") from None

    def _matrix(self) -> Matrix:
        try:
            start = self._lines.index("1 4 4") + 1
            rows = [
                [float(word) for word in line.split()] for line in self._lines[start : start + 4]
            ]
            matrix = np.array(rows)
            if matrix.shape != (4, 4):
                raise ValueError
        except ValueError:
            raise self._error("1 4 4") from None
        return matrix

    def _numbers(self, name: str, count: int, start: int = 0) -> list[float]:
        """The numbers of a field, the first after a line."""
        for match in self._fields(name, start):
            try:
                numbers = [float(word) for word in match.split()[:count]]
            except ValueError:
                break
            if len(numbers) == count and np.isfinite(numbers).all():
                return numbers
            break
        raise self._error(name)

    def _fields(self, name: str, start: int) -> Iterator[str]:
        for line in self._lines[start:]:
            match = re.fullmatch(rf"{name}\s*=\s*(.*)", line)
            if match:
                yield match[1]

    def _error(self, name: str) -> InputError:
        return InputError(
            f"{self.path} cannot be read as a transform: it has no valid field {name!r}; check "
            "that it is a complete LTA file."
        )


def _geometry_lines(role: str, grid: Grid) -> list[str]:
    matrix = grid.world_from_index.numpy()
    spacing = np.array(grid.spacing_mm)
    cosines = (matrix[:3, :3] / spacing).T
    centre = matrix[:3, :3] @ np.array(grid.shape) / 2 + matrix[:3, 3]
    vectors = {f"{axis}ras": row for axis, row in zip("xyz", cosines, strict=True)}
    return [
        f"{role} volume info",
        "valid = 1  # volume info valid",
        f"filename = {role}.nii.gz",
        "volume = {} {} {}".format(*grid.shape),
        *(
            f"{name} = " + " ".join(f"{n:.15e}" for n in values)
            for name, values in {"voxelsize": spacing, **vectors, "cras": centre}.items()
        ),
    ]
