"""Bootstrap intervals and paired comparisons, with SciPy as reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from stn3d.errors import InputError
from stn3d.scoring import BootstrapSettings, compare, summarise


def by_pair(values: list[float]) -> dict[str, float]:
    return {str(number): value for number, value in enumerate(values)}


def test_the_summary_has_the_statistics_of_the_known_values() -> None:
    values = [0.5, 0.7, math.nan, 0.9, 0.1]
    found = summarise(values, "dice")
    known = np.array([0.5, 0.7, 0.9, 0.1])
    assert (found.n, found.mean, found.median) == (4, known.mean(), np.median(known))
    assert found.sd == pytest.approx(known.std(ddof=1))
    assert found.worst30 == pytest.approx(0.3)  # 2 of 4, the lowest Dice
    assert summarise(values, "hd95_mm").worst30 == pytest.approx(0.8)
    assert math.isnan(summarise(values, "jacobian_min").worst30)
    nothing = summarise([math.nan], "dice")
    assert nothing.n == 0
    assert math.isnan(nothing.mean)
    assert all(math.isnan(limit) for limit in summarise([0.4], "dice").interval)


def test_the_interval_is_that_of_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(1).gamma(2.0, 1.0, 25)
    found = summarise(list(values), "hd95_mm", BootstrapSettings(3))
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    assert found.interval == pytest.approx(tuple(theirs), rel=0.02)
    assert summarise(list(values), "hd95_mm", BootstrapSettings(3)) == found
    assert summarise(list(values), "hd95_mm", BootstrapSettings(4)).interval != found.interval
    wide = summarise(list(values), "hd95_mm", BootstrapSettings(3, confidence=0.99)).interval
    assert wide[0] < found.interval[0] < found.interval[1] < wide[1]
    assert summarise([2.0, 2.0, 2.0], "hd95_mm").interval == (2, 2)


def test_a_comparison_is_paired() -> None:
    """A small gain on pairs that differ much among each other."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.2, 0.9, 10)
    better = base + rng.uniform(0.005, 0.015, 10)
    ours, theirs = by_pair(list(better)), by_pair([*base, 0.5])  # a pair that only one has
    found = compare("dice", ("ours", ours), ("theirs", theirs))
    assert found.n == 10
    assert found.mean_difference == pytest.approx((better - base).mean())
    assert found.p == pytest.approx(stats.wilcoxon(better, base).pvalue)
    assert found.interval[0] > 0
    assert found.better == "ours"
    assert found.sentence().endswith("ours is better")
    assert "10 pairs" in found.sentence()
    assert compare("hd95_mm", ("ours", ours), ("theirs", theirs)).better == "theirs"
    swapped = compare("dice", ("theirs", theirs), ("ours", ours))
    assert swapped.mean_difference == pytest.approx(-found.mean_difference)
    assert (swapped.p, swapped.better) == (found.p, "ours")


def test_what_cannot_be_decided_is_not() -> None:
    few = compare("dice", ("a", by_pair([0.5] * 5)), ("b", by_pair([0.4, 0.41, 0.42, 0.43, 0.44])))
    assert few.p == pytest.approx(2 / 2**5)
    assert few.better is None
    assert "fewer than 6 pairs cannot reach p < 0.05" in few.sentence()
    equal = compare("dice", ("a", by_pair([0.5] * 9)), ("b", by_pair([0.5] * 9)))
    assert (equal.p, equal.mean_difference, equal.better) == (1, 0, None)
    assert equal.sentence().endswith("no difference is shown")
    one = compare("dice", ("a", by_pair([0.5, math.nan])), ("b", by_pair([0.4, 0.3])))
    assert (one.n, one.better) == (1, None)
    assert "too few to compare" in one.sentence()
    assert compare("dice", ("a", {"x": 1.0}), ("b", {"y": 1.0})).n == 0


@pytest.mark.parametrize("bad", [{"seed": -1}, {"resamples": 0}, {"confidence": 1.0}])
def test_bad_settings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match="give"):
        BootstrapSettings(**bad)  # type: ignore[arg-type]
