"""Fits of the model of the expected error to cues at points whose true error is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import spearmanr

from stn3d.registration.uncertainty_model import ErrorModel, Term

Floats = NDArray[np.float64]
FINE_CUES = ("residual", "inconsistent", "curvature", "slope", "rough", "backward")
COARSE_CUES = ("residual", "inconsistent", "difference", "curvature", "slope", "rough")
CUES = {"fine": FINE_CUES, "coarse": COARSE_CUES}
FLOORS = {
    "fine": {"curvature": 0.003, "slope": 0.5, "rough": 1.0},
    "coarse": {
        "residual": 0.3,
        "inconsistent": 0.3,
        "difference": 0.003,
        "curvature": 0.003,
        "slope": 2.0,
        "rough": 2.0,
    },
}
"""Those of other cues are 0.1 length units."""
_LENGTH_FLOOR = 0.1
SIZE_EXPONENT = -0.2
"""Not fitted: the kinds differ too little in size, see docs/experiments/uncertainty.md."""
_LEAST_ERROR = 0.05  # length units; smaller errors are equal
_SHRINKAGE = 1e-3
_FITTED_POINTS = 300  # of each case
_LEAST_POINTS = 11
_SEEN = 0.5


@dataclass(frozen=True, eq=False)
class Sample:
    """Cues and errors at points of a case.

    Args:
        row: what is known of the case.
        cues: by grid (``fine``, ``coarse``) and name, ``(N,)``.
        body: the same at points of the whole body.
        errors: ``error`` of the result and of its linear part, in length units; empty without
            truth.
    """

    row: dict[str, Any]
    cues: dict[str, dict[str, Floats]]
    body: dict[str, dict[str, Floats]]
    errors: dict[str, Floats]

    @property
    def kind(self) -> str:
        """Kind of images."""
        return str(self.row["kind"])


def load_samples(folder: Path) -> list[Sample]:
    """All samples of a folder, by number."""
    return [_load(path) for path in sorted(folder.glob("*.npz"))]


def _load(path: Path) -> Sample:
    file = dict(np.load(path).items())
    row = json.loads(str(file["row"])) | {"number": int(path.stem)}
    cues, body, errors = {}, {}, {}
    for grid, prefix in (("fine", ""), ("coarse", "coarse_")):
        if grid not in file:
            continue
        names = [str(name) for name in file[f"{grid}_names"]]
        values = file[grid].astype(float)
        keep = values[names.index("seen")] > _SEEN
        cues[grid] = dict(zip(names, values[:, keep], strict=True))
        body[grid] = dict(zip(names, file[f"{grid}_body"].astype(float), strict=True))
        for name in ("error", "linear", "initial"):
            if name in file:
                errors[prefix + name] = file[name][keep].astype(float)
    return Sample(row, cues, body, errors)


def floor_of(grid: str, name: str) -> float:
    """The floor of a cue."""
    return FLOORS[grid].get(name, _LENGTH_FLOOR)


def design(grid: str, cues: dict[str, Floats], step: int) -> Floats:
    """``(N, C)`` logarithms of the cues of every step-th point."""
    columns = [
        np.log(np.clip(cues[name][::step], 0, None) + floor_of(grid, name)) for name in CUES[grid]
    ]
    return np.stack(columns, axis=1)


def fit(samples: Sequence[Sample], grid: str) -> ErrorModel:
    """The model with the largest gamma likelihood of the errors; every kind has the same weight.

    The mean is fitted, not the median: the gamma deviance with a logarithmic link is minimal where
    the mean ratio of errors to expectations is 1.
    """
    parts, errors, weights = [], [], []
    for one in samples:
        found = errors_of(one, grid)
        step = 1 + len(found) // _FITTED_POINTS
        found = found[::step]
        parts.append(design(grid, one.cues[grid], step))
        sizes = one.cues[grid]["size"][::step]
        errors.append(np.maximum(found, _LEAST_ERROR) / sizes**SIZE_EXPONENT)
        weights.append(np.full(len(found), 1 / max(len(found), 1)) * weight_of(one, samples))
    x, y, w = np.concatenate(parts), np.concatenate(errors), np.concatenate(weights)
    x, w = np.concatenate([np.ones((len(x), 1)), x], axis=1), w / w.sum()

    def deviance(c: Floats) -> tuple[float, Floats]:
        eta = np.clip(x @ c, -12, 12)
        ratio = y * np.exp(-eta)
        value = float(w @ (ratio + eta)) + _SHRINKAGE * float(c[1:] @ c[1:])
        gradient = x.T @ (w * (1 - ratio))
        gradient[1:] += 2 * _SHRINKAGE * c[1:]
        return value, gradient

    names = CUES[grid]
    bounds = [(None, None), *((None, 0) if n == "curvature" else (0, None) for n in names)]
    found = minimize(deviance, np.zeros(x.shape[1]), jac=True, bounds=bounds, method="L-BFGS-B")
    expected = np.exp(x @ found.x)
    factor = weighted_quantile(y / expected, w, 0.9)
    terms = {
        n: Term(floor_of(grid, n), float(e)) for n, e in zip(names, found.x[1:], strict=True) if e
    }
    terms["size"] = Term(0, SIZE_EXPONENT)
    return ErrorModel(float(found.x[0]), terms, float(factor))


def weight_of(one: Sample, samples: Sequence[Sample]) -> float:
    """Weight of a case: all kinds have the same."""
    return 1.0 / sum(other.kind == one.kind for other in samples)


def predict(model: ErrorModel, cues: dict[str, Floats]) -> Floats:
    """The expected error in length units."""
    value = np.full(len(next(iter(cues.values()))), model.intercept)
    for name, term in model.terms.items():
        value += term.exponent * np.log(np.clip(cues[name], 0, None) + term.floor)
    return np.exp(np.minimum(value, np.log(100)))


def weighted_quantile(values: Floats, weights: Floats, q: float) -> float:
    """The value below which a fraction of the weight lies."""
    order = np.argsort(values)
    along = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(along, q * along[-1])])


def sparsification(error: Floats, expected: Floats) -> float:
    """How well points are ordered: 0 as at random, 1 as by their true errors.

    Mean error of the points that are kept while those with the largest expected errors are left
    out, one after the other, on the scale between these two orders.
    """

    def curve(order: Floats) -> float:
        ranked = error[np.argsort(order)]
        return float(np.mean(np.cumsum(ranked) / np.arange(1, len(ranked) + 1)))

    best, mine, none = curve(error), curve(expected), float(error.mean())
    return (none - mine) / max(none - best, 1e-9)


# -- what rows hold --------------------------------------------------------------------------------


def usable(samples: Sequence[Sample], grid: str) -> list[Sample]:
    """The samples with cues on a grid, a truth and enough points that both images show."""
    return [one for one in samples if len(errors_of(one, grid)) >= _LEAST_POINTS]


def errors_of(one: Sample, grid: str) -> Floats:
    """True errors where the cues of a grid are known; none without a truth."""
    return one.errors.get("coarse_error" if grid == "coarse" else "error", np.zeros(0))


def with_expectations(rows: Sequence[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """The rows with what models expect that were fitted to all other kinds of images."""
    samples = load_samples(folder)
    found: dict[int, dict[str, Any]] = {one.row["number"]: {} for one in samples}
    for kind in dict.fromkeys(one.kind for one in samples):
        for grid in ("fine", "coarse"):
            model = fit([one for one in usable(samples, grid) if one.kind != kind], grid)
            for one in samples:
                if one.kind == kind and grid in one.cues:
                    found[one.row["number"]][grid] = _expectation(model, one, grid)
    return [row | {"left_out": found.get(row["number"])} for row in rows]


def _expectation(model: ErrorModel, one: Sample, grid: str) -> dict[str, Any]:
    """What a model says about a case, in length units."""
    seen = one.body[grid]["seen"] > _SEEN
    body = {name: values[seen] for name, values in one.body[grid].items()}
    about: dict[str, Any] = {"body": float(predict(model, body).mean()) if seen.any() else None}
    if not usable([one], grid):
        return about
    error = errors_of(one, grid)
    expected = predict(model, one.cues[grid])
    return about | {
        "coverage": float((error <= model.bound_factor * expected).mean()),
        "error": float(error.mean()),
        "expected": float(expected.mean()),
        "rank": float(spearmanr(error, expected).statistic),
        "sparsification": sparsification(error, expected),
    }


def as_text(model: ErrorModel, name: str) -> str:
    """The model in the notation of `stn3d.registration.uncertainty_model`."""
    terms = "".join(
        f'        "{cue}": Term({term.floor:g}, {term.exponent:.3f}),\n'
        for cue, term in model.terms.items()
        if abs(term.exponent) >= 0.0005
    )
    start = f"{name} = ErrorModel(\n    intercept={model.intercept:.3f},\n    terms={{\n"
    return f"{start}{terms}    }},\n    bound_factor={model.bound_factor:.2f},\n)\n"
