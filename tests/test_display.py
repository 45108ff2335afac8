"""Short descriptions of objects, as text and as HTML."""

from __future__ import annotations

import base64
import inspect
import re
from io import BytesIO

import numpy as np
import pytest
import torch
from matplotlib import image as pictures

from stn3d import transforms
from stn3d.display import Description, by_x, components, lengths, number, png, thumbnail
from stn3d.grid import Grid
from stn3d.io import as_image
from stn3d.landmarks import register_landmarks
from stn3d.registration.result import Registration
from stn3d.series.result import SeriesRegistration
from tests.helpers.geometry_cases import oblique, rotation, smooth_field

GRID = Grid((6, 5, 4), torch.diag(torch.tensor([-2.0, 2.0, 3.0, 1.0])))
FIELD = transforms.DisplacementField(
    torch.tensor([3.0, 4.0, 0.0]).reshape(1, 3, 1, 1, 1) * torch.ones(1, 1, *GRID.shape), GRID
)
RIGID = transforms.Rigid(torch.tensor([0, 0, torch.pi / 6, 1, -2, 3.5]), torch.zeros(3))


def test_numbers_are_short() -> None:
    assert by_x((182, 218, 182)) == "182 x 218 x 182"
    assert (lengths([1.0, 1.0]), lengths([1.0, 2.5])) == ("1 mm", "1 x 2.5 mm")
    assert components([1.23456, -2, 0, -0.0]) == "(1.235, -2, 0, 0)"
    assert (number(12.345, "mm"), number(float("nan"), "mm"), number(3)) == ("12.3 mm", "", "3")


def test_text_and_html_hold_the_same_rows() -> None:
    made = Description("Thing", [("size", "3 < 4"), ("nothing", "")])
    assert made.text == "Thing(size 3 < 4)"
    assert "3 &lt; 4" in made.html()
    assert "nothing" not in made.html()
    assert "<img" not in made.html()


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (GRID, "Grid(shape 6 x 5 x 4, spacing 2 x 2 x 3 mm, orientation LAS)"),
        (
            RIGID,
            "Rigid(in 3D, rotation 30 degrees, translation (1, -2, 3.5) mm, centre (0, 0, 0))",
        ),
        (
            FIELD,
            "DisplacementField(in 3D, largest displacement 5 mm, shape 6 x 5 x 4, "
            "spacing 2 x 2 x 3 mm, orientation LAS)",
        ),
        (
            transforms.Affine.from_matrix(np.diag([-2.0, 1.0, 1.0])),
            "Affine(in 2D, rotation 0 degrees, translation (0, 0) mm, centre (0, 0), "
            "scales 2 x 1, reflection of x)",
        ),
        (
            transforms.Rigid(torch.zeros(4, 6), torch.zeros(3)),
            "Rigid(in 3D, batch 4 transforms)",
        ),
        (transforms.Inverse(RIGID), f"Inverse(in 3D, of {RIGID!r})"),
        (FIELD.then(RIGID), f"Chain(in 3D, first {FIELD!r}, then {RIGID!r})"),
    ],
)
def test_what_objects_say(made: object, text: str) -> None:
    assert repr(made) == text


@pytest.mark.parametrize("angles", [(10, 20, 30), (0, 0, 179), (90, 0, 0)])
def test_the_angle_of_a_rotation_is_that_of_scipy(angles: tuple[float, ...]) -> None:
    from scipy.spatial.transform import Rotation

    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = 1.1 * rotation(3, angles)
    expected = np.degrees(Rotation.from_matrix(matrix[:3, :3] / 1.1).magnitude())
    assert f"rotation {expected:.3g} degrees" in repr(transforms.Affine.from_matrix(matrix))


def concrete(kind: type) -> list[type]:
    found = [one for sub in kind.__subclasses__() for one in concrete(sub)]
    return found if inspect.isabstract(kind) else [kind, *found]


def test_no_class_of_transforms_has_a_long_repr() -> None:
    """A dataclass prints whole tensors unless it is told not to."""
    own = [one for one in concrete(transforms.Transform) if one.__module__.startswith("stn3d.")]
    assert len(own) > 10
    assert [one.__name__ for one in own if "__repr__" in vars(one)] == []


def test_any_number_of_parts_is_short() -> None:
    chain = transforms.Chain((FIELD, RIGID) * 50)
    assert len(repr(chain)) < 500
    assert "and 97 more" in repr(chain)


def test_transforms_that_are_not_finite_can_be_shown() -> None:
    assert "nan" in repr(transforms.Rigid(torch.full((6,), torch.nan), torch.zeros(3)))


@pytest.mark.parametrize("seed", range(6))
def test_orientation_is_that_of_nibabel(seed: int) -> None:
    import nibabel as nib

    order = np.random.default_rng(seed).permutation(3)
    matrix = np.eye(4)
    matrix[:3, :3] = oblique(3).world_from_index[:3, :3].numpy()[:, order]
    expected = "".join(nib.aff2axcodes(matrix))
    assert Grid((3, 3, 3), torch.from_numpy(matrix)).orientation == expected


def picture_of(html: str, number: int = 0) -> np.ndarray:
    found = re.findall(r"data:image/png;base64,([^']+)'", html)
    return np.asarray(pictures.imread(BytesIO(base64.b64decode(found[number]))))


def test_a_picture_is_read_by_others() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    read = pictures.imread(BytesIO(png(grey)))
    np.testing.assert_array_equal(np.round(255 * read).astype(np.uint8), grey)
    assert max(thumbnail(np.random.default_rng(0).random((1000, 300))).shape) <= 160


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1)])
def test_an_image_shows_its_axial_slice_with_anterior_up_and_right_to_the_right(
    signs: tuple[int, ...],
) -> None:
    """A bright voxel in the right anterior quarter is in the upper right, however stored."""
    values = torch.zeros(8, 8, 5)
    values[6, 7] = 1
    values = values.flip([axis for axis, sign in enumerate(signs) if sign < 0])
    matrix = torch.diag(torch.tensor([*signs, 1.0]))
    shown = picture_of(as_image((values.permute(2, 0, 1), matrix[:, [2, 0, 1, 3]]))._repr_html_())
    assert np.unravel_index(shown.argmax(), shown.shape) == (0, 6)


def test_an_image_says_what_it_is() -> None:
    image = as_image((torch.arange(120.0).reshape(GRID.shape), GRID))
    assert repr(image) == (
        "Image(of the image in memory, shape 6 x 5 x 4, spacing 2 x 2 x 3 mm, orientation LAS, "
        "values 0 to 119, float32)"
    )
    flat = as_image((torch.rand(6, 5), Grid.of_spacing((6, 5))))
    assert "orientation RA" in repr(flat)
    assert picture_of(flat._repr_html_()).shape == (5, 6)


def registration(**after: object) -> Registration:
    image = as_image((torch.rand(GRID.shape), GRID))
    metrics = {
        "quality": {"status": "good"},
        "settings": {"kind": "deformable", "metric": "lncc"},
        "before": {"correlation": 0.25, "local_correlation": 0.125, "dice": 0.3},
        "after": {"correlation": 0.75, "local_correlation": 0.5, "folding_pct": 0.0, **after},
        "timings_s": {"read": 1.0, "rigid": 2.5},
    }
    return Registration(FIELD, FIELD.inverse(), image, image, metrics)


def test_a_registration_says_how_it_went() -> None:
    made = registration(dice=0.65, tre_mm={"mean": 1.234})
    assert repr(made) == (
        "Registration(quality good, kind deformable, metric lncc, correlation 0.25 -> 0.75, "
        "local correlation 0.125 -> 0.5, dice 0.3 -> 0.65, TRE 1.23 mm, folding 0 %, time 3.5 s)"
    )
    assert made._repr_html_().count("<img") == 2
    assert "TRE" not in repr(registration(correlation=None))


def test_landmarks_and_series_say_how_it_went() -> None:
    fixed = torch.rand(12, 3, dtype=torch.float64) * 100
    found = register_landmarks(fixed, RIGID(fixed))
    assert repr(found).startswith("LandmarkRegistration(kind rigid, landmarks 12, residual ")
    poses = tuple(transforms.Rigid(0.01 * n * torch.ones(6), torch.zeros(3)) for n in range(3))
    image = as_image((torch.rand(GRID.shape), GRID))

    class Named:
        name = "bold.nii.gz"

    made = SeriesRegistration(
        poses,
        Named(),  # type: ignore[arg-type]
        image,
        "linear",
        (0.9, 0.95, 1.0),
        {"timings_s": {"register": 2.0}},
    )
    assert repr(made) == (
        "SeriesRegistration(of bold.nii.gz, volumes 3, largest rotation 1.98 degrees, "
        "largest translation 0.0346 mm, mean framewise displacement 0.12 mm, "
        "correlation 0.95, time 2 s)"
    )
    assert "<table>" in made._repr_html_()


def test_a_field_far_larger_than_its_repr() -> None:
    grid = oblique(3, (9, 8, 7))
    velocity = transforms.VelocityField(smooth_field(grid, 1.0), grid)
    for made in (velocity, velocity.displacement):
        assert len(repr(made)) < 200
        assert "largest" in made._repr_html_()
