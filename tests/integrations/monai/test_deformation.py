import pytest
import torch

from stn3d.errors import InputError
from stn3d.grid import Grid, homogeneous
from stn3d.integrations.monai.deformation import Box, SmoothDeformation
from stn3d.synth.generator import SeededGenerator
from stn3d.warp import jacobian_determinant

LOW, HIGH = torch.full((3,), -60.0).double(), torch.full((3,), 60.0).double()


def sample(seed, amplitude=(6.0, 6.0), sigma=(12.0, 12.0), low=LOW, high=HIGH):
    return SmoothDeformation(amplitude, sigma).sample(
        SeededGenerator(seed), Box(low, high, (low + high) / 2)
    )


def points(count=4000, ndim=3):
    generator = torch.Generator().manual_seed(1)
    return 120 * torch.rand(count, ndim, generator=generator, dtype=torch.float64) - 60


def test_a_deformation_depends_on_the_seed_and_not_on_the_box():
    p = points()
    first = sample(0)(p)
    wider = sample(0, low=LOW - torch.tensor([0.3, 17.0, 5.0]), high=HIGH + 2.2)(p)
    torch.testing.assert_close(first, wider, atol=1e-4, rtol=0)
    assert float((first - sample(1)(p)).norm(dim=1).mean()) > 1


def test_the_amplitude_is_exceeded_by_about_1_in_100_points():
    fields = [sample(seed, low=LOW / 3, high=HIGH / 3) for seed in range(12)]
    lengths = torch.cat([field.velocity_mm[0].flatten(1).norm(dim=0) for field in fields])
    assert 0.002 < float((lengths > 6).float().mean()) < 0.03


def test_the_amplitude_is_limited_by_sigma_and_nothing_folds():
    field = sample(0, amplitude=(80.0, 80.0))
    grid = Grid((60,) * 3, homogeneous(2 * torch.eye(3).double(), LOW.double() + 1))
    assert float(jacobian_determinant(field, grid).min()) > 0.2
    assert float((field(points()) - points()).norm(dim=1).quantile(0.99)) < 1.3 * 0.8 * 12


@pytest.mark.parametrize("sigma", [8.0, 12.0, 24.0])
def test_the_inverse_is_accurate(sigma):
    p, field = points(), sample(3, amplitude=(8.0, 8.0), sigma=(sigma, sigma))
    inner = p[(p.abs() < 48).all(dim=1)]
    error = (field.inverse()(field(inner)) - inner).norm(dim=1)
    assert float(error.mean()) < 0.05
    assert float(error.max()) < 0.25


def test_planes_are_deformed():
    low, high = torch.tensor([-60.0, -60.0]).double(), torch.tensor([60.0, 60.0]).double()
    box = Box(low, high, (low + high) / 2)
    field = SmoothDeformation((6, 6), (12, 12)).sample(SeededGenerator(0), box)
    p = points(ndim=2)
    assert float((field(p) - p).norm(dim=1).mean()) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"amplitude_mm": (5.0, 1.0)}, "amplitude_mm"),
        ({"amplitude_mm": (-1.0, 1.0)}, "amplitude_mm"),
        ({"amplitude_mm": 4.0}, "amplitude_mm"),
        ({"sigma_mm": (0.0, 5.0)}, "sigma_mm"),
        ({"sigma_mm": (1.0, float("inf"))}, "sigma_mm"),
    ],
)
def test_ranges_are_checked(options, message):
    with pytest.raises(InputError, match=f"{message} is .* give a minimum and a maximum"):
        SmoothDeformation(**options)


def test_a_sigma_of_too_many_nodes_is_one_sentence():
    with pytest.raises(InputError, match="give a larger sigma_mm"):
        sample(0, sigma=(0.2, 0.2))
