"""The examples of the page about the quality check are those that were measured."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from scripts.bench.store import read
from scripts.bench.studies import quality_examples
from stn3d import Grid
from tests.helpers.paths import ROOT
from tests.registration.test_quality import SOUND

PAGE = ROOT / "docs" / "quality.md"
RESULTS = ROOT / "docs" / "results" / "quality_examples"


def test_the_page_shows_what_was_measured() -> None:
    lines = quality_examples.table(read(RESULTS).rows)
    assert len(lines) == 2 + len(quality_examples.EXAMPLES)
    assert "\n".join(lines) in PAGE.read_text(encoding="utf8")


def test_the_measure_that_decided_is_in_bold() -> None:
    measures = dataclasses.replace(SOUND, folding_pct=5.0, max_affine_scale=1.5)
    found: dict[str, Any] = {"status": "failed", "measures": dataclasses.asdict(measures)}
    cells = quality_examples.cells({"quality": found})
    assert [cell for cell in cells if "**" in cell] == ["**5.00**"]
    found = {"status": "good", "measures": dataclasses.asdict(SOUND)}
    assert not any("**" in cell for cell in quality_examples.cells({"quality": found}))


def test_headers_and_sides_are_changed_as_named() -> None:
    grid = Grid.of_spacing((4, 5, 6), 2.0)
    values = torch.arange(120.0).reshape(4, 5, 6)
    _, larger = quality_examples.larger_voxels(1.5)((values, grid))
    assert larger.spacing_mm == pytest.approx((3.0, 3.0, 3.0))
    swapped, same = quality_examples.mirrored((values, grid))
    assert torch.equal(swapped, values.flip(0))
    assert same is grid
