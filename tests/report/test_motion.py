"""The plot of a series' motion."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from stn3d.report.motion import MotionCurves, motion_plot


def test_the_lines_are_the_motion() -> None:
    curves = MotionCurves(
        {"x": [0.0, 0.5, -0.5], "y": [0, 0, 0], "z": [0, 0, 0.25]},
        {"x": [0.0, 1, 2], "y": [0, 0, 0], "z": [0, 0, -1]},
        [0.0, 1.5, 4.0],
    )
    tree = ElementTree.fromstring(motion_plot(curves))
    lines = [line.get("points") for line in tree.iter("{http://www.w3.org/2000/svg}polyline")]
    assert len(lines) == 7
    points = [[float(x) for x in re.split("[ ,]", str(line))] for line in lines]
    heights = [line[1::2] for line in points]
    zero = heights[1][0]
    up, down = zero - heights[0][1], heights[0][2] - zero
    assert up == pytest.approx(down) == pytest.approx(2 * (zero - heights[2][2]))
    assert heights[3][0] - heights[3][2] == pytest.approx(2 * (heights[5][2] - heights[5][0]))
    displacement = heights[6]
    assert (displacement[0] - displacement[1]) / (displacement[0] - displacement[2]) == (
        pytest.approx(1.5 / 4)
    )
    assert points[0][::2] == [56.0, 506.0, 956.0]


def test_a_series_that_does_not_move_is_drawn() -> None:
    still = {axis: [0.0] for axis in "xyz"}
    text = motion_plot(MotionCurves({"z": [0.0]}, still, [0.0]))
    assert "nan" not in text
    assert ElementTree.fromstring(text) is not None
