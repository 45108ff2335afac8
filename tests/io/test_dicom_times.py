"""Time points of DICOM series, the order of their volumes, and what cannot be told apart."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from stn3d.errors import InputError
from stn3d.io import GeometryWarning, open_series, read_image
from stn3d.io.dicom_times import time_points
from tests.io.test_dicom import AXIAL, multi_frame, series

HEIGHTS = (6.0, 0.0, 3.0)


def timed(folder: Path, tags: list[dict[str, Any]], heights: tuple[float, ...] = HEIGHTS) -> Path:
    """A series whose file n has the tags n, at heights that repeat; every voxel of file n is n."""
    places = [(0.0, 0, z) for z in heights] * (len(tags) // len(heights))
    series(folder, places, [AXIAL] * len(tags))
    for path, given in zip(sorted(folder.iterdir()), tags, strict=True):
        data = pydicom.dcmread(path)
        for keyword, value in given.items():
            setattr(data, keyword, value)
        data.save_as(path)
    return folder


def values(folder: Path) -> list[list[float]]:
    """The value of each slice of each volume."""
    volumes = open_series(folder)
    return [one.values[0, 0, 0, 0].tolist() for one in volumes]


@pytest.mark.parametrize(
    ("keyword", "texts", "tag"),
    [
        ("TemporalPositionIdentifier", ["2", "1"], "0020,0100"),
        ("TriggerTime", ["35.5", "0"], "0018,1060"),
        ("EchoNumbers", ["2", "1"], "0018,0086"),
        ("AcquisitionTime", ["101502.25", "101500"], "0008,0032"),
    ],
)
def test_volumes_in_the_order_of_an_attribute(
    tmp_path: Path, keyword: str, texts: list[str], tag: str
) -> None:
    folder = timed(tmp_path / "mr", [{keyword: text} for text in texts for _ in range(3)])
    message = rf"mr holds 2 volumes of 3 slices, in the order of {keyword} \({tag}\)"
    with pytest.warns(GeometryWarning, match=message):
        found = values(folder)
    assert found == [[4, 5, 3], [1, 2, 0]]
    with (
        pytest.warns(GeometryWarning),
        pytest.raises(InputError, match="2 volumes; choose one with --volume N"),
    ):
        read_image(folder)
    with pytest.warns(GeometryWarning):
        second = read_image(folder, volume=1)
    expected = [[-1.5, 0, 0, 0], [0, -2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(second.grid.world_from_index.numpy(), expected)


def test_slices_acquired_one_after_another(tmp_path: Path) -> None:
    """Times differ within a volume, and one acquisition ends after midnight."""
    times = ["235957", "235958", "235959", "000000", "000001", "000002"]
    dates = ["20240229"] * 3 + ["20240301"] * 3
    tags = [{"AcquisitionTime": t, "AcquisitionDate": d} for t, d in zip(times, dates, strict=True)]
    folder = timed(tmp_path / "epi", tags)
    with pytest.warns(GeometryWarning, match="order of AcquisitionTime"):
        volumes = open_series(folder)
    assert [one.values[0, 0, 0, 0].tolist() for one in volumes] == [[1, 2, 0], [4, 5, 3]]
    assert float(volumes.stored.header["pixdim"][4]) == 3
    assert volumes.stored.header.get_xyzt_units() == ("mm", "sec")


def test_instance_numbers_by_volume_or_by_position(tmp_path: Path) -> None:
    by_volume = timed(tmp_path / "a", [{"InstanceNumber": 10 - n} for n in range(6)])
    with pytest.warns(GeometryWarning, match="order of InstanceNumber"):
        assert values(by_volume) == [[4, 5, 3], [1, 2, 0]]
    numbers = [1, 3, 5, 2, 4, 6]
    by_position = timed(tmp_path / "b", [{"InstanceNumber": n} for n in numbers])
    with pytest.warns(GeometryWarning, match="order of InstanceNumber"):
        assert values(by_position) == [[1, 2, 0], [4, 5, 3]]


def test_a_constant_or_incomplete_attribute_is_passed_over(tmp_path: Path) -> None:
    tags = [{"TemporalPositionIdentifier": 1, "EchoNumbers": 2 - n // 3} for n in range(6)]
    del tags[2]["TemporalPositionIdentifier"]
    with pytest.warns(GeometryWarning, match="order of EchoNumbers"):
        assert values(timed(tmp_path / "mr", tags)) == [[4, 5, 3], [1, 2, 0]]


def test_one_slice_over_time(tmp_path: Path) -> None:
    tags = [{"TriggerTime": t, "SliceThickness": 8} for t in ("50", "0", "25")]
    folder = timed(tmp_path / "cine", tags, (4.0,))
    with pytest.warns(GeometryWarning, match="3 volumes of 1 slice, in the order of TriggerTime"):
        volumes = open_series(folder)
    assert volumes.stored.shape == (7, 6, 1, 3)
    assert [one.values[0, 0, 0, 0].tolist() for one in volumes] == [[1], [2], [0]]
    np.testing.assert_allclose(np.diag(volumes.stored.affine), (-1.5, -2, 8, 1))
    assert float(volumes.stored.header["pixdim"][4]) == pytest.approx(0.025)


def test_what_cannot_be_told_apart_is_refused(tmp_path: Path) -> None:
    mixed = [1, 2, 3, 6, 4, 5]  # neither by volume nor by position: 6.0 has 1 and 6
    mixed[2], mixed[3] = 6, 3
    cases: dict[str, tuple[list[dict[str, Any]], str]] = {
        "twice": ([{"InstanceNumber": n % 3} for n in range(6)], "no attribute divides them"),
        "mixed": ([{"InstanceNumber": n} for n in mixed], "no attribute divides them"),
        "words": ([{"AcquisitionTime": "noon"}] * 6, "no attribute divides them"),
    }
    for name, (tags, message) in cases.items():
        with pydicom.config.disable_value_validation():
            folder = timed(tmp_path / name, tags)
        with pytest.raises(InputError, match=message):
            read_image(folder)
    folder = timed(tmp_path / "cut", [{"EchoNumbers": 1 + n // 3} for n in range(6)])
    shutil.move(folder / "004.dcm", tmp_path / "away.dcm")
    with pytest.raises(InputError, match="up to 2 slices at the same position, but 1 at another"):
        read_image(folder)


def test_time_points_that_move_are_refused(tmp_path: Path) -> None:
    places = [(0.0, 0, z) for z in HEIGHTS] + [(1.0, 0, z) for z in HEIGHTS]
    series(tmp_path / "moved", places, [AXIAL] * 6)
    for n, path in enumerate(sorted((tmp_path / "moved").iterdir())):
        data = pydicom.dcmread(path)
        data.InstanceNumber = n + 1
        data.save_as(path)
    with (
        pytest.warns(GeometryWarning),
        pytest.raises(InputError, match=r"time points of .*moved lie at different positions"),
    ):
        read_image(tmp_path / "moved")


def test_frames_of_a_multi_frame_file(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    multi_frame(path, [(0, 0, z) for z in (3.0, 0, 3, 0)])
    data = pydicom.dcmread(path)
    for n, group in enumerate(data.PerFrameFunctionalGroupsSequence):
        content = Dataset()
        content.TemporalPositionIndex = 2 - n // 2
        content.FrameAcquisitionDateTime = f"20240301101{1 - n // 2}00.5"
        group.FrameContentSequence = [content]
    data.save_as(path)
    with pytest.warns(GeometryWarning, match="2 volumes of 2 slices, in the order of Temporal"):
        volumes = open_series(path)
    assert [one.values[0, 0, 0, 0].tolist() for one in volumes] == [[3, 2], [1, 0]]
    assert float(volumes.stored.header["pixdim"][4]) == 60


def test_positions_with_different_numbers_of_slices_have_no_time_points() -> None:
    assert time_points([0, 0, 1], [{"InstanceNumber": n} for n in range(3)]) is None
