"""Validation metrics."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("ignite")

from stn3d.train import (
    MeanMetric,
    PairMetrics,
    lower_is_better,
)


def test_pair_metrics() -> None:
    shape = (6, 7)
    truth = torch.zeros(2, 2, *shape)
    truth[:, 0] = 1.0
    labels = torch.zeros(2, 1, *shape, dtype=torch.int16)
    labels[:, :, 3:5, 2:5] = 4
    batch = {
        "fixed": torch.ones(2, 1, *shape),
        "fixed_weight": torch.ones(2, 1, *shape),
        "displacement_vox": truth,
        "truth_weight": torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1).expand(2, 1, *shape),
        "fixed_labels": labels,
        "moving_labels": torch.roll(labels, 1, dims=2),
        "fixed_points": torch.tensor([[[1.0, 1.0]], [[2.0, 2.0]]]),
        "moving_points": torch.tensor([[[2.0, 1.0]], [[4.0, 2.0]]]),
        "points_weight": torch.ones(2, 1),
    }
    figures = PairMetrics(lambda stages, _: (stages[-1].sum(), {}), 2.0)
    exact = figures({"pred": (truth,), "label": batch})
    assert exact["truth_error_mm"][0] == 0
    assert math.isnan(exact["truth_error_mm"][1])
    assert exact["dice"] == [1.0, 1.0]
    assert exact["landmark_error_mm"] == [0.0, 2.0]
    assert exact["folding_pct"] == [0.0, 0.0]
    still = figures({"pred": (torch.zeros_like(truth),), "label": batch})
    assert still["truth_error_mm"][0] == 2.0
    assert still["dice"][0] < 1
    folded = torch.zeros_like(truth)
    folded[:, 0] = -2 * torch.arange(6.0)[:, None]
    assert figures({"pred": (folded,), "label": batch})["folding_pct"] == [100.0, 100.0]


def test_a_mean_metric_ignores_nan() -> None:
    mean = MeanMetric("x")
    engine = SimpleNamespace(state=SimpleNamespace(output={"x": [1.0, math.nan]}, metrics={}))
    mean._reset(engine)
    mean._update(engine)
    engine.state.output = {"x": [4.0]}
    mean._update(engine)
    mean._compute(engine, "x")
    assert engine.state.metrics == {"x": 2.5}
    assert lower_is_better(1.0, math.nan)
    assert not lower_is_better(2.0, 1.0)
