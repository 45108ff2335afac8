"""Transforms in world coordinates, and files of metrics."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("ignite")

from stn3d.train import world_transform, write_metrics


def test_a_voxel_displacement_becomes_a_world_transform() -> None:
    spacing = torch.diag(torch.tensor([2.0, 2.0, 1.0]).double())
    field = torch.zeros(2, 5, 5)
    field[0] = 1.5
    shift = torch.eye(3).double()
    shift[1, 2] = 10.0
    transform = world_transform(field, spacing, shift)
    moved = transform(torch.tensor([[4.0, 4.0]]).double())
    assert moved.tolist() == [[7.0, 14.0]]


def test_undefined_metrics_are_null(tmp_path: Path) -> None:
    metrics = {"dice": torch.tensor(0.5), "error_mm": math.nan, "loss": math.inf}
    evaluator: Any = SimpleNamespace(state=SimpleNamespace(metrics=metrics))
    write_metrics(tmp_path / "out" / "metrics.json", evaluator)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    text = (tmp_path / "out" / "metrics.json").read_text(encoding="utf-8")
    found = json.loads(text, parse_constant=refuse)
    assert found == {"dice": 0.5, "error_mm": None, "loss": None}
