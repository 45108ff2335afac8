"""elastix's parameter files: classes by SimpleITK, B-splines, initial transforms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from stn3d.errors import InputError
from stn3d.io import read_transform, write_transform
from tests.io.transforms.cases import GRIDS, affine, field, points_in

FLIP = np.array([-1.0, -1.0, 1.0])
COMMON = '(FixedImageDimension 3)\n(MovingImageDimension 3)\n(HowToCombineTransforms "Compose")\n'


def gap_mm(found: object, theirs: sitk.Transform) -> float:
    points = points_in(GRIDS["oblique"], 30)
    mapped = [theirs.TransformPoint(point) for point in (points.numpy() * FLIP).tolist()]
    ours = found(points).numpy()  # type: ignore[operator]
    return float(np.abs(ours - np.array(mapped) * FLIP).max())


def linear_text(kind: str, parameters: list[float], centre: list[float], more: str = "") -> str:
    numbers = " ".join(str(n) for n in parameters)
    middle = " ".join(str(n) for n in centre)
    return (
        f'(Transform "{kind}") // a comment\n(NumberOfParameters {len(parameters)})\n'
        f"(TransformParameters {numbers})\n(CenterOfRotationPoint {middle})\n{COMMON}{more}"
    )


@pytest.mark.parametrize(
    ("kind", "theirs", "parameters"),
    [
        ("TranslationTransform", sitk.TranslationTransform(3), [1.0, -2, 3]),
        ("EulerTransform", sitk.Euler3DTransform(), [0.1, -0.2, 0.3, 4.0, 5, -6]),
        ("SimilarityTransform", sitk.Similarity3DTransform(), [0.1, 0.2, -0.1, 4.0, 5, -6, 1.2]),
        ("AffineTransform", sitk.AffineTransform(3), [1, 0.1, 0, 0, 0.9, 0, 0.2, 0, 1, 4.0, 5, 6]),
    ],
)
def test_linear_classes(
    tmp_path: Path, kind: str, theirs: sitk.Transform, parameters: list[float]
) -> None:
    centre = [12.0, -7.0, 3.0]
    (tmp_path / "t.txt").write_text(linear_text(kind, parameters, centre))
    if kind != "TranslationTransform":
        theirs.SetFixedParameters(centre + [0.0] * (kind == "EulerTransform"))
    theirs.SetParameters(parameters)
    assert gap_mm(read_transform(tmp_path / "t.txt"), theirs) < 1e-9


def spline(folder: Path, more: str = "") -> sitk.Transform:
    """A file with a B-spline on an oblique grid, and SimpleITK's transform."""
    grid = GRIDS["oblique"].padded(8.0)
    flip = np.diag([-1.0, -1, 1, 1])
    lps = flip @ grid.world_from_index.numpy()
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    values = np.random.default_rng(0).normal(size=3 * int(np.prod(grid.shape)))

    def words(numbers: object) -> str:
        return " ".join(f"{n:.17g}" for n in np.ravel(numbers))

    (folder / "t1.txt").write_text(
        f'(Transform "BSplineTransform")\n(TransformParameters {words(values)})\n{COMMON}'
        f"(GridSize {words(grid.shape)})\n(GridIndex 0 0 0)\n(GridSpacing {words(spacing)})\n"
        f"(GridOrigin {words(lps[:3, 3])})\n(GridDirection {words(direction.T)})\n"
        f"(BSplineTransformSplineOrder 3)\n{more}"
    )
    coefficients = []
    for one in values.reshape(3, *grid.shape[::-1]):
        image = sitk.GetImageFromArray(one)
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        image.SetDirection(direction.ravel().tolist())
        coefficients.append(image)
    return sitk.BSplineTransform(coefficients, 3)


def test_a_spline_and_its_initial_transform(tmp_path: Path) -> None:
    """The initial transform comes first; its folder may have changed."""
    theirs = spline(tmp_path)
    assert gap_mm(read_transform(tmp_path / "t1.txt"), theirs) < 1e-6
    spline(tmp_path, '(InitialTransformParameterFileName "/gone/t0.txt")\n')
    first = sitk.TranslationTransform(3, [1.0, -2.0, 0.5])
    (tmp_path / "t0.txt").write_text(linear_text("TranslationTransform", [1, -2, 0.5], [0, 0, 0]))
    both = sitk.CompositeTransform([theirs, first])  # the last acts first
    assert gap_mm(read_transform(tmp_path / "t1.txt"), both) < 1e-6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (linear_text("SplineKernelTransform", [1], [0, 0, 0]), "which stn3d does not read"),
        (linear_text("EulerTransform", [1, 2], [0, 0, 0]), "entry TransformParameters is missing"),
        (
            linear_text("TranslationTransform", [1.0, 2, 3], [0, 0, 0]).replace("Compose", "Add")
            + '(InitialTransformParameterFileName "t0.txt")',
            "adds its displacements",
        ),
        (
            linear_text("TranslationTransform", [1, 2, 3], [0, 0, 0])
            + '(InitialTransformParameterFileName "gone.txt")',
            "needs the file gone.txt, which does not exist",
        ),
        (
            linear_text("TranslationTransform", [1, 2, 3], [0, 0, 0])
            + '(InitialTransformParameterFileName "t.txt")',
            "does not exist",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        read_transform(tmp_path / "t.txt")


def test_a_field_is_an_image_beside_the_parameters(tmp_path: Path) -> None:
    grid = GRIDS["oblique"]
    dense = field(grid).then(affine())
    files = write_transform(tmp_path / "t.txt", dense, fixed=grid, format="elastix")
    assert [file.name for file in files] == ["t.txt", "t_field.mha"]
    vectors = sitk.ReadImage(str(files[1]), sitk.sitkVectorFloat64)
    assert gap_mm(dense, sitk.DisplacementFieldTransform(vectors)) < 1e-4
    assert '(Transform "DeformationFieldTransform")' in files[0].read_text()
