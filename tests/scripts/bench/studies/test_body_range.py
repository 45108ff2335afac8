"""Kinds of pairs: geometry of what is cropped and displaced, and the table of the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from scripts.bench.pairs import parts_of_points, read_pairs
from scripts.bench.store import Results, Row
from scripts.bench.studies.body_range.page import accuracy, behind
from scripts.bench.studies.body_range.pairs import coarser, cropped, displaced, in_mm
from scripts.bench.written_pairs import LabelledImage, Picture, write_pair
from stn3d import read_image


def test_a_cropped_coarser_displaced_image_is_known() -> None:
    affine = np.array([[0.0, -2, 0, 5], [2, 0, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1]])
    index = np.indices((9, 8, 6)).reshape(3, -1).T.astype(float)
    values = in_mm(index, affine).sum(1).reshape(9, 8, 6)  # linear: means of voxels stay exact
    smaller, known = coarser(values, affine)
    part = cropped(smaller, known, slice(2, 5))
    assert part.values.shape == (4, 4, 3)
    there = np.indices(part.values.shape).reshape(3, -1).T.astype(float)
    np.testing.assert_allclose(in_mm(there, part.affine).sum(1), part.values.ravel(), rtol=1e-6)
    pair = displaced("one", part, part, seed=4)
    assert pair.truth is not None
    assert isinstance(pair.moving, LabelledImage)
    moved = pair.truth(in_mm(there, part.affine)).numpy()
    np.testing.assert_allclose(moved, in_mm(there, pair.moving.affine), atol=1e-9)
    assert np.linalg.norm(moved - in_mm(there, part.affine), axis=1).min() > 1


def test_pictures_and_parts_of_landmarks_are_written(tmp_path: Path) -> None:
    source = tmp_path / "a.tif"
    grey = np.random.default_rng(0).integers(0, 255, (20, 30), np.uint8)
    image = sitk.GetImageFromArray(grey)
    image.SetSpacing((0.25, 0.25))
    sitk.WriteImage(image, str(source))
    points = np.array([[29.0, 0.0], [3.0, 19.0]])
    picture = Picture(source, points)
    write_pair(tmp_path / "pairs" / "p", "histology", picture, picture)
    parts = {"inside": np.ones((2, 3))}
    values = np.ones((4, 4, 4))
    volume = LabelledImage(values, np.eye(4), points_mm=np.ones((3, 3)), parts_mm=parts)
    write_pair(tmp_path / "pairs" / "v", "livers", volume, volume)
    flat, solid = read_pairs(tmp_path / "pairs")
    grid = read_image(flat["fixed"]).grid
    written = np.loadtxt(flat["fixed_points"], delimiter=",", skiprows=1)
    matrix = grid.world_from_index.numpy()
    np.testing.assert_allclose(points @ matrix[:2, :2].T + matrix[:2, 2], written)
    assert parts_of_points(solid) == ["inside"]
    assert "fixed_labels" not in solid


def test_the_best_tools_of_a_kind_are_bold() -> None:
    means = (("before", 1.0), ("stn3d default", 2.0), ("greedy", 2.05), ("elastix", 3.0))
    rows: list[Row] = [
        {"split": "livers", "pair": f"livers: {pair}", "tool": tool, "tre_mm": value}
        for pair in "ab"
        for tool, value in means
    ]
    rows.append({"split": "livers", "pair": "livers: a", "tool": "ants-syn", "tre_mm": 1.5})
    head, line, *_ = accuracy(Results("body_range", {}, rows))
    cells = dict(zip(head, line, strict=True))
    assert (cells["kind"], cells["pairs"], cells["metric"]) == ("livers", "2", "landmarks")
    assert (cells["before"], cells["elastix"]) == ("1", "3")  # the identity is no tool
    assert (cells["stn3d default"], cells["greedy"]) == ("**2**", "**2.05**")
    assert cells["ants-syn"] == "1.5 (1)"


def test_the_page_names_the_tools_that_are_better_on_the_pairs_in_common() -> None:
    values = {
        "stn3d default": {"a": 2.0, "b": 4.0},
        "stn3d --preset default": {"a": 1.9},
        "greedy": {"a": 1.95, "b": 9.0},
        "ants-syn": {"a": 1.0},
        "elastix": {"b": 3.0},
    }
    rows: list[Row] = [
        {"split": "livers", "pair": pair, "tool": tool, "tre_mm": value}
        for tool, pairs in values.items()
        for pair, value in pairs.items()
    ]
    assert behind(Results("body_range", {}, rows)) == [
        "- livers, landmarks: 2 against 1 and 1.9 against 1 by ants-syn.",
        "- livers, landmarks: 4 against 3 by elastix.",
    ]
    assert behind(Results("body_range", {}, rows[:5])) == []
