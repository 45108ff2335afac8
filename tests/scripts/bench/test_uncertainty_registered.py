"""A case of the study of uncertainty is registered once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import stn3d
from scripts.bench.uncertainty_cases import Case
from scripts.bench.uncertainty_registered import registered
from stn3d.errors import InputError
from tests.helpers.images import smooth_image

OPTIONS = {"kind": "rigid", "metric": "ncc", "preset": "fast", "threads": 1}


def a_case() -> Case:
    image = smooth_image((32, 32))[0, 0].float()
    grid = stn3d.Grid.of_spacing((32, 32), 2.0)
    both = [(values[None, None], grid) for values in (image, torch.roll(image, 2, 0))]
    return Case("squares", "as it should be", *both, None, OPTIONS)


def test_the_second_time_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = registered(a_case(), 7, tmp_path)
    monkeypatch.setattr(stn3d, "register", None)
    again = registered(a_case(), 7, tmp_path)
    assert found.transform is not None
    assert again.transform is not None
    points = torch.rand(9, 2).double() * 30
    assert torch.equal(found.transform(points), again.transform(points))
    assert again.settings.metric == "ncc"
    assert again.about == found.about
    assert again.about["quality"]["status"] in ("good", "check")


def test_images_that_are_refused_stay_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise InputError("nothing in common.")

    monkeypatch.setattr(stn3d, "register", refuse)
    assert registered(a_case(), 7, tmp_path).about == {"refused": "nothing in common."}
    monkeypatch.undo()
    found = registered(a_case(), 7, tmp_path)
    assert found.transform is None
    assert found.about == {"refused": "nothing in common."}
