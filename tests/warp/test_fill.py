"""The value outside of the moving image."""

from __future__ import annotations

import math

import pytest
import torch

from stn3d.errors import InputError
from stn3d.warp.fill import background, outside_label, outside_value


def ball(inner: float, outer: float, sd: float = 3.0) -> torch.Tensor:
    """A ball that touches a face, with noise."""
    radius = (torch.stack(torch.meshgrid(*[torch.arange(24.0)] * 3, indexing="ij")) - 9).norm(dim=0)
    generator = torch.Generator().manual_seed(0)
    noise = sd * torch.randn(radius.shape, generator=generator)
    return (torch.where(radius < 10, inner, outer) + noise)[None, None]


def test_ct_is_filled_with_air_by_default() -> None:
    ct = ball(40, -1000)
    assert outside_value("auto", ct) == pytest.approx(-1000, abs=1)
    padded = ct.clone()
    padded[..., :3] = -3024  # beyond the scanner's circle
    assert outside_value("auto", padded) == pytest.approx(-1000, abs=1)
    constant = ct.clone()
    constant[constant < -900] = -1024
    assert outside_value("auto", constant) == -1024
    inside = ball(40, -700, 20)  # cropped to the body: a lung, and little air
    inside[..., 3:10, 3:10, :] = -1000
    assert outside_value("auto", inside) == pytest.approx(-1000, abs=1)


def test_other_images_are_filled_with_0_by_default() -> None:
    assert outside_value("auto", ball(600, 20)) == 0
    assert outside_value("background", ball(600, 20)) == pytest.approx(20, abs=1)
    assert outside_value("background", ball(30, 255, 0)) == 255
    whole = ball(600, 20).round().int()
    assert outside_value("background", whole) in (19, 20, 21)


def test_what_is_asked_for() -> None:
    ct = ball(40, -1000)
    assert outside_value(-3.5, ct) == outside_value("-3.5", ct) == -3.5
    assert math.isnan(outside_value("nan", ct))
    assert background(ct) == outside_value("background", ct)
    for wrong in ("air", "inf", "1e39", "", True):
        with pytest.raises(InputError, match=r"fill .* is unknown; give a number"):
            outside_value(wrong, ct)


def test_labels_are_filled_with_whole_numbers() -> None:
    assert outside_label("auto", "a") == outside_label("background", "a") == 0
    assert outside_label("5", "a") == 5
    for wrong, shown in (("nan", "nan"), (0.5, "0.5")):
        with pytest.raises(InputError, match=f"cannot be filled with {shown}; give"):
            outside_label(wrong, "a")
