"""Learning rates."""

from __future__ import annotations

import itertools

import pytest
from torch import nn

pytest.importorskip("ignite")

from stn3d.errors import InputError
from stn3d.train import (
    parameter_groups,
    warmup_cosine,
)


def test_parameter_groups_have_own_rates_and_decay() -> None:
    network = nn.ModuleDict({"localisation": nn.Linear(2, 2), "rest": nn.Linear(2, 2)})
    groups = parameter_groups(network, 1e-3, {"localisation": 1e-4}, 0.01)
    found = {(g["lr"], g["weight_decay"], tuple(p.ndim for p in g["params"])) for g in groups}
    assert found == {(1e-4, 0.01, (2,)), (1e-4, 0.0, (1,)), (1e-3, 0.01, (2,)), (1e-3, 0.0, (1,))}
    with pytest.raises(InputError, match="did you mean 'localisation'"):
        parameter_groups(network, 1e-3, {"localization": 1e-4})


def test_warmup_and_cosine_decay() -> None:
    factor = warmup_cosine(100, 10, 0.1)
    values = [factor(i) for i in range(120)]
    assert values[:2] == [0.1, 0.2]
    assert values[9] == 1.0
    assert all(a >= b for a, b in itertools.pairwise(values[9:]))
    assert values[100] == values[119] == pytest.approx(0.1)
