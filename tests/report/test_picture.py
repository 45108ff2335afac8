"""Pictures of a registration: the pixels of the files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import Grid, homogeneous
from stn3d.io import Image, read_image
from stn3d.registration.inputs import LoadedImage, LoadedPair
from stn3d.report import save_picture
from stn3d.report.case import ReportCase
from stn3d.report.picture import (
    metric_lines,
    picture_of,
    thumbnail_in,
    thumbnail_of,
    write_picture,
)
from stn3d.report.views import views_of
from stn3d.transforms import Affine, DisplacementField, Transform
from tests.helpers.geometry_cases import make_grid, smooth_field


def blob(grid: Grid, centre_mm: Tensor, radius_mm: float) -> Image:
    """Bright within a ball, with a brighter one off its middle, so that it has a pose."""
    points = grid.points_mm()
    off = torch.zeros(grid.ndim, dtype=torch.float64)
    off[0] = radius_mm / 3
    values = 100 * torch.sigmoid(radius_mm - (points - centre_mm).norm(dim=-1))
    values += 80 * torch.sigmoid(radius_mm / 3 - (points - centre_mm - off).norm(dim=-1))
    return read_image((values[None, None], grid))


def drawn(path: Path) -> np.ndarray:
    with Pillow.open(path) as picture:
        assert picture.mode == "RGB"
        return np.asarray(picture) / 255


def field_of(figure_pixels: np.ndarray, column: int, row: int) -> np.ndarray:
    """About one of the six fields of a picture without a title."""
    height, width = figure_pixels.shape[:2]
    rows = slice(row * height // 2, (row + 1) * height // 2)
    return figure_pixels[rows, column * width // 3 : (column + 1) * width // 3]


def orange(pixels: np.ndarray) -> np.ndarray:
    """Where the outlines' colour is."""
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    return (red > 0.8) & (green > 0.4) & (green < 0.75) & (blue < 0.3)


def scene(ndim: int) -> tuple[Image, Image, Transform]:
    """Two blobs 9 mm apart, the moving one on an oblique, anisotropic grid; and the answer."""
    fixed_grid = Grid.of_spacing((40, 36, 32)[:ndim], 1.0)
    middle = fixed_grid.centre_mm
    shift = torch.tensor([9.0, 0, 0]).double()[:ndim]
    moving_grid = make_grid((44, 30, 20)[:ndim], (1.0, 1.5, 2.5), (15, 10, 20))
    matrix = moving_grid.world_from_index.clone()
    matrix[:-1, -1] += middle + shift - moving_grid.centre_mm
    moving_grid = Grid(moving_grid.shape, matrix)
    answer = Affine.from_matrix(homogeneous(torch.eye(ndim).double(), shift))
    return blob(fixed_grid, middle, 9.0), blob(moving_grid, middle + shift, 9.0), answer


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_picture_shows_the_outlines_where_they_belong(ndim: int, tmp_path: Path) -> None:
    fixed, moving, answer = scene(ndim)
    save_picture(tmp_path / "a.png", fixed, moving, answer)
    pixels = drawn(tmp_path / "a.png")
    # After, the outlines run along the fixed blob; before, they lie 9 mm to its right.
    middles = []
    for row in (0, 1):
        cell = field_of(pixels, 0, row)
        # in 3D the coronal plane, which is the upper left one
        width = cell.shape[1] if ndim == 2 else int(0.48 * cell.shape[1])
        upper = orange(cell[int(0.08 * len(cell)) : int(0.45 * len(cell)), :width])
        assert upper.sum() > 50
        middles.append(float((upper.sum(axis=0) * np.arange(upper.shape[1])).sum() / upper.sum()))
    assert middles[0] > middles[1] + 10
    assert not np.array_equal(field_of(pixels, 1, 0), field_of(pixels, 1, 1))


def test_equal_pictures_are_equal_bytes_and_a_deformation_shows(tmp_path: Path) -> None:
    fixed, moving, answer = scene(2)
    bent = DisplacementField(smooth_field(fixed.grid, 4.0).float(), fixed.grid).then(answer)
    for name, transform in (("a", answer), ("b", answer), ("c", bent)):
        save_picture(tmp_path / f"{name}.png", fixed, moving, transform)
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b
    assert a != c
    cells = [field_of(drawn(tmp_path / f"{name}.png"), 2, 1) for name in "ac"]
    warm = [float(((p[..., 0] > 0.9) & (p[..., 2] < 0.4)).mean()) for p in cells]
    assert warm[1] > warm[0] + 0.005  # the lines that moved most are red, none without bending


def test_no_overlap_before_is_drawn_too(tmp_path: Path) -> None:
    fixed, moving, answer = scene(2)
    far = Grid(
        moving.grid.shape,
        homogeneous(torch.eye(2).double(), torch.tensor([500.0, 0]).double())
        @ moving.grid.world_from_index,
    )
    there = Affine.from_matrix(
        homogeneous(torch.eye(2).double(), torch.tensor([509.0, 0]).double())
    )
    save_picture(tmp_path / "a.png", fixed, read_image((moving.values, far)), there)
    pixels = drawn(tmp_path / "a.png")
    cells = [field_of(pixels, 0, row) for row in (0, 1)]
    before, after = (int(orange(cell[: int(0.7 * len(cell))]).sum()) for cell in cells)
    assert before == 0
    assert after > 50
    save_picture(tmp_path / "a.pdf", fixed, moving, answer)
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_bad_paths_are_reported(tmp_path: Path) -> None:
    fixed, moving, answer = scene(2)
    with pytest.raises(InputError, match=r"\.png, \.jpg, \.pdf"):
        save_picture(tmp_path / "a.tiff", fixed, moving, answer)
    with pytest.raises(InputError, match="no folder"):
        save_picture(tmp_path / "none" / "a.png", fixed, moving, answer)
    assert list(tmp_path.iterdir()) == []


def test_a_png_holds_its_thumbnail(tmp_path: Path) -> None:
    fixed, moving, answer = scene(3)
    inputs = LoadedPair(LoadedImage("fixed", fixed), LoadedImage("moving", moving))
    views = views_of(ReportCase(inputs, answer, {}))
    path = tmp_path / "a.png"
    write_picture(path, picture_of(views), thumbnail=thumbnail_of(views))
    found = thumbnail_in(path)
    assert found is not None
    with Pillow.open(io.BytesIO(found)) as small:
        assert small.format == "WEBP"
        assert small.height == 84 < small.width
        # the first plane is coronal: the blob is in its middle
        grey = np.asarray(small.convert("L"))
    assert grey[42, round(42 * 40 / 32)] > 100 > 40 > grey[3, 3]
    (tmp_path / "b.png").write_bytes(b"no picture")
    assert thumbnail_in(tmp_path / "b.png") is None
    assert thumbnail_in(tmp_path / "none.png") is None


def test_the_metrics_beside_the_overlays() -> None:
    metrics = {
        "before": {"correlation": 0.1, "dice": None},
        "after": {"correlation": 0.95, "dice": 0.8},
        "quality": {"status": "good"},
    }
    assert metric_lines(metrics) == (
        ["correlation 0.100"],
        ["correlation 0.950", "Dice 0.800", "quality: good"],
    )
