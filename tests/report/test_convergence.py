"""The plot of the losses."""

from __future__ import annotations

import pytest

from stn3d.report.convergence import levels_of


def test_levels_stand_side_by_side_with_their_lines() -> None:
    stage = {"stage": "rigid", "spacing_mm": 4.0, "first_loss": 1.0, "last_loss": 0.5}
    known = {**stage, "evaluations": 3, "losses": [1.0, 0.75, 0.5]}
    old = {**stage, "evaluations": 30}  # of a version without the losses
    trial = {**stage, "evaluations": 3, "losses": [1.0, 9.0, 0.5]}
    assert levels_of([trial])[0].line == "0.0,5.0 50.0,5.0 100.0,95.0"
    equal = {**stage, "evaluations": 1, "losses": [0.2]}
    first, second, third = levels_of([known, old, equal])
    assert first.line == "0.0,5.0 50.0,50.0 100.0,95.0"
    assert second.line == "0.0,5.0 100.0,95.0"
    assert third.line == "0.0,95.0"
    assert first.left == 0
    assert third.left + third.width == pytest.approx(100, abs=0.05)
    assert first.width > second.width > third.width
    assert levels_of([]) == []
