"""Statistics over pairs: bootstrap confidence intervals, and paired comparison of two methods."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stn3d.errors import InputError

HIGHER_IS_BETTER = frozenset(
    {"dice", "nsd", "landmark_robustness", "correlation", "local_correlation"}
)
LOWER_IS_BETTER = frozenset(
    {
        "hd95_mm",
        "hd95_pooled_mm",
        "hausdorff_mm",
        "assd_mm",
        "hd95_vox",
        "tre_mm.mean",
        "tre_mm.median",
        "tre_mm.worst30",
        "tre_mm.max",
        "true_error_mm.mean",
        "inverse_consistency_error_mm.mean",
        "folding_pct",
        "ndv_pct",
        "log_jacobian_sd",
        "sdlogj",
    }
)
_WORST = 0.3
_MOST_DRAWS = 1_000_000  # numbers drawn at a time
_LEVEL = 0.05  # of the test
_FEWEST = 6  # pairs with which the exact signed-rank test can reach p < 0.05: 2 / 2^6


@dataclass(frozen=True)
class BootstrapSettings:
    """Settings of the bootstrap.

    Args:
        seed: seed of the resampling.
        resamples: number of resamples.
        confidence: confidence level of the intervals, 0 to 1.

    Raises:
        InputError: a number is out of range.
    """

    seed: int = 0
    resamples: int = 10_000
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"the seed is {self.seed}; give 0 or more.")
        if not 1 <= self.resamples <= 1_000_000:
            raise InputError(f"there are {self.resamples} resamples; give 1 to 1,000,000.")
        if not 0 < self.confidence < 1:
            raise InputError(f"the confidence is {self.confidence:g}; give a level such as 0.95.")


@dataclass(frozen=True)
class Summary:
    """A metric of one method over pairs.

    Args:
        n: number of pairs for which it is defined.
        mean: mean over the pairs.
        sd: standard deviation over the pairs (n - 1); NaN for one pair.
        median: median over the pairs.
        worst30: mean of the worst 30 % of the pairs (rounded up); NaN where neither direction is
            better.
        interval: bootstrap confidence interval of the mean; NaN for one pair.
    """

    n: int
    mean: float
    sd: float
    median: float
    worst30: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """A metric of two methods on the same pairs.

    Args:
        metric: name of the metric.
        first: one method.
        second: the other method.
        n: number of pairs for which both are defined.
        mean_difference: mean of first minus second.
        interval: bootstrap confidence interval of the mean difference; NaN for one pair.
        confidence: confidence level of the interval.
        p: two-sided p value of the Wilcoxon signed-rank test; NaN for fewer than two pairs.
        better: the better method if p < 0.05 and the interval excludes 0; else None.
    """

    metric: str
    first: str
    second: str
    n: int
    mean_difference: float
    interval: tuple[float, float]
    confidence: float
    p: float
    better: str | None

    def sentence(self) -> str:
        """The comparison in words."""
        low, high = self.interval
        text = f"{self.metric}: {self.first} minus {self.second} {self.mean_difference:+.4g}"
        pairs = "pair" if self.n == 1 else "pairs"
        if self.n < 2:
            return f"{text} ({self.n} {pairs}, too few to compare)"
        text += (
            f" ({100 * self.confidence:g} % interval {low:+.4g} to {high:+.4g}, {self.n} {pairs}), "
            f"Wilcoxon signed-rank p = {self.p:.2g}"
        )
        if self.better is not None:
            return f"{text}: {self.better} is better"
        if self.n < _FEWEST:
            return f"{text}: fewer than {_FEWEST} pairs cannot reach p < {_LEVEL:g}"
        if self.p < _LEVEL:
            return f"{text}: a difference is not certain" if low <= 0 <= high else text
        return f"{text}: no difference is shown"


def summarise(
    values: Sequence[float], metric: str, settings: BootstrapSettings | None = None
) -> Summary:
    """Mean, spread and confidence interval of a metric over pairs.

    Args:
        values: the metric of each pair; NaN where it is not defined.
        metric: its name, from which follows whether higher or lower is better.
        settings: settings of the bootstrap.
    """
    known = np.array([value for value in values if math.isfinite(value)])
    if not len(known):
        return Summary(0, math.nan, math.nan, math.nan, math.nan, (math.nan, math.nan))
    ordered = np.sort(known if metric in HIGHER_IS_BETTER else -known)
    worst = abs(float(ordered[: math.ceil(round(_WORST * len(known), 9))].mean()))
    return Summary(
        len(known),
        float(known.mean()),
        float(known.std(ddof=1)) if len(known) > 1 else math.nan,
        float(np.median(known)),
        worst if metric in HIGHER_IS_BETTER | LOWER_IS_BETTER else math.nan,
        _interval(known, settings or BootstrapSettings()),
    )


def compare(
    metric: str,
    first: tuple[str, Mapping[str, float]],
    second: tuple[str, Mapping[str, float]],
    settings: BootstrapSettings | None = None,
) -> Comparison:
    """Compare two methods by the differences on the same pairs.

    Args:
        metric: name of the metric.
        first: name of a method, and its metric by pair; NaN where it is not defined.
        second: the other method.
        settings: settings of the bootstrap.
    """
    settings = settings or BootstrapSettings()
    (name, values), (other, others) = first, second
    both = [(values[pair], others[pair]) for pair in values if pair in others]
    differences = np.array([a - b for a, b in both if math.isfinite(a) and math.isfinite(b)])
    n = len(differences)
    mean = float(differences.mean()) if n else math.nan
    low, high = _interval(differences, settings)
    p = _wilcoxon_p(differences)
    better = None
    if p < _LEVEL and not low <= 0 <= high and metric in HIGHER_IS_BETTER | LOWER_IS_BETTER:
        better = name if (mean > 0) == (metric in HIGHER_IS_BETTER) else other
    return Comparison(metric, name, other, n, mean, (low, high), settings.confidence, p, better)


def _interval(values: NDArray[np.float64], settings: BootstrapSettings) -> tuple[float, float]:
    """Percentile bootstrap of the mean (Efron & Tibshirani 1993, chapter 13)."""
    if len(values) < 2:
        return math.nan, math.nan
    rng = np.random.default_rng(settings.seed)
    n, means = len(values), []
    for size in _batches(settings.resamples, max(1, _MOST_DRAWS // n)):
        means.append(values[rng.integers(0, n, (size, n))].mean(axis=1))
    tail = 50 * (1 - settings.confidence)
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    return float(low), float(high)


def _batches(total: int, size: int) -> list[int]:
    """Sizes of batches that add up to a total."""
    return [size] * (total // size) + ([total % size] if total % size else [])


def _wilcoxon_p(differences: NDArray[np.float64]) -> float:
    """Two-sided p value; pairs without a difference are dropped, as Wilcoxon did."""
    if len(differences) < 2:
        return math.nan
    if not differences.any():
        return 1.0
    from scipy.stats import wilcoxon  # slow to import, needed only here

    return float(wilcoxon(differences, zero_method="wilcox").pvalue)
