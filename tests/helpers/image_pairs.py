"""Pairs of image files with a known affine transform."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from stn3d.grid import Grid
from stn3d.io import write_transform
from stn3d.transforms import Affine


def body(points_mm: Tensor) -> Tensor:
    """A bright asymmetric body with inner structures, centred on 0."""
    x, y, z = points_mm.float().unbind(-1)
    shell = torch.sigmoid((24 - (x**2 + 1.5 * y**2 + 1.2 * (z + 0.1 * x) ** 2).sqrt()) / 1.5)
    inside = torch.exp(-((x - 8) ** 2 + (y + 4) ** 2 + z**2) / 60)
    other = torch.exp(-((x + 9) ** 2 + (y - 2) ** 2 + (z - 6) ** 2) / 40)
    return 100 * shell * (0.5 + inside - 0.4 * other)


TRUTH = Affine.from_matrix(
    torch.tensor(
        [[0.98, -0.17, 0.02, 7.0], [0.16, 1.01, 0.0, -6.0], [0.0, 0.03, 1.04, 5.0], [0, 0, 0, 1]]
    ).double()
)


def written_pair(folder: Path, labels: bool = False) -> dict[str, str]:
    """Two images of one body; the moving one is transformed by `TRUTH`, on a flipped finer grid."""
    grids = {
        "fixed": centred_grid((30, 28, 26), [2.0, 2.0, 2.2]),
        "moving": centred_grid((44, 36, 40), [-1.7, 2.0, 1.8]),
    }
    for role, grid in grids.items():
        points = grid.points_mm()
        values = body(points if role == "fixed" else TRUTH.inverse()(points))[None, None]
        image = write_image_file(folder / f"{role}.nii.gz", values, grid)
        if labels:
            map_ = (values > 30).int() + (values > 70)
            write_image_file(folder / f"{role}_labels.nii.gz", map_, grid)
        assert image.exists()
    write_transform(folder / "truth.tfm", TRUTH)
    pair = {role: f"{role}.nii.gz" for role in grids} | {"truth": "truth.tfm"}
    return pair | ({f"{role}_labels": f"{role}_labels.nii.gz" for role in grids} if labels else {})


def centred_grid(shape: Sequence[int], spacing_mm: Sequence[float]) -> Grid:
    matrix = torch.diag(torch.tensor([*spacing_mm, 1.0]).double())
    matrix[:3, 3] = -matrix[:3, :3] @ ((torch.tensor(shape).double() - 1) / 2)
    return Grid(tuple(shape), matrix)


def write_image_file(path: Path, values: Tensor, grid: Grid) -> Path:
    import nibabel as nib

    array = values[0, 0].numpy()
    array = array.astype("int16") if not values.is_floating_point() else array
    nib.save(nib.Nifti1Image(array, grid.world_from_index.numpy()), path)
    return path


def absolute(folder: Path, pair: dict[str, str]) -> dict[str, str]:
    return {key: str(folder / file) for key, file in pair.items()}
