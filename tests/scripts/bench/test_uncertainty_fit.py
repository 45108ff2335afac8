"""The fit finds a model that is known, and its bound holds."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.bench.uncertainty_fit import (
    COARSE_CUES,
    SIZE_EXPONENT,
    Sample,
    fit,
    floor_of,
    predict,
    sparsification,
)


def a_sample(kind: str, seed: int) -> Sample:
    """Errors that follow two cues, one of them downwards, and the size, with gamma noise."""
    draws = np.random.default_rng(seed)
    cues = {name: draws.uniform(0.05, 4, 400) for name in COARSE_CUES}
    residual, curvature = (
        cues[name] + floor_of("coarse", name) for name in ("residual", "curvature")
    )
    cues["size"] = np.full(400, draws.uniform(50, 200))
    mean = 2 * residual**0.5 * curvature**-0.3 * cues["size"] ** SIZE_EXPONENT
    error = mean * draws.gamma(4, 0.25, 400)
    return Sample({"kind": kind}, {"coarse": cues}, {}, {"coarse_error": error})


def test_a_known_model_is_found() -> None:
    model = fit([a_sample(kind, n) for n, kind in enumerate("aabbcc")], "coarse")
    assert model.terms["residual"].exponent == pytest.approx(0.5, abs=0.05)
    assert model.terms["curvature"].exponent == pytest.approx(-0.3, abs=0.05)
    assert all(
        abs(model.terms[n].exponent) < 0.1 for n in ("rough", "gradient") if n in model.terms
    )
    other = a_sample("d", 9)
    error, expected = other.errors["coarse_error"], predict(model, other.cues["coarse"])
    assert expected.mean() == pytest.approx(error.mean(), rel=0.08)
    assert (error <= model.bound_factor * expected).mean() == pytest.approx(0.9, abs=0.04)


def test_an_order_is_worth_something_between_none_and_that_of_the_errors() -> None:
    error = np.random.default_rng(0).uniform(size=2000)
    assert sparsification(error, error) == pytest.approx(1)
    shuffled = np.random.default_rng(1).uniform(size=2000)
    assert abs(sparsification(error, shuffled)) < 0.1
