"""Many pairs from a table: each is evaluated, methods are summarised and compared."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stn3d.errors import InputError, shown_text
from stn3d.evaluation import Evaluation, EvaluationOptions
from stn3d.evaluation.json_values import json_value
from stn3d.io.pair_tables import TableRow, cell_path, read_pair_table
from stn3d.registration.inputs import RegistrationImage
from stn3d.scoring.api import PairData, evaluate_data
from stn3d.scoring.comparison import (
    HIGHER_IS_BETTER,
    LOWER_IS_BETTER,
    BootstrapSettings,
    Comparison,
    compare,
    summarise,
)

_FILES = (
    "fixed",
    "moving",
    "transform",
    "inverse",
    "true_transform",
    "fixed_mask",
    "fixed_labels",
    "moving_labels",
    "moved_labels",
    "fixed_points",
    "moving_points",
)
COLUMNS = ("pair", "method", *_FILES)
_TRANSFORMS = ("transform", "inverse", "true_transform")
_METRICS = sorted(HIGHER_IS_BETTER | LOWER_IS_BETTER)


@dataclass(frozen=True, eq=False)
class PairRow:
    """A row of a table of pairs.

    Args:
        line: its line in the file, from 1.
        pair: name of the pair; the same for all methods.
        method: name of the method.
        files: path of each file that is given, by column.
    """

    line: int
    pair: str
    method: str
    files: dict[str, str]

    def data(self) -> PairData:
        """The row's files as data of a pair."""
        files = self.files
        transforms = {name: files.get(name) for name in _TRANSFORMS}
        if "moved_labels" in files:
            labels = {name: files.get(name) for name in _FILES if name.endswith("_labels")}
            return PairData(transform=transforms["transform"], **labels)
        sides = [
            RegistrationImage(
                files[role],
                mask=files.get(f"{role}_mask"),
                labels=files.get(f"{role}_labels"),
                landmarks=files.get(f"{role}_points"),
            )
            if role in files
            else None
            for role in ("fixed", "moving")
        ]
        return PairData(sides[0], sides[1], **transforms)


@dataclass(frozen=True, eq=False)
class PairResult:
    """A row and its metrics."""

    row: PairRow
    evaluation: Evaluation

    def values(self) -> dict[str, float]:
        """The metrics that are summarised, by their path in the JSON; NaN if not defined."""
        found, metrics = {}, self.evaluation.to_dict()
        for path in _METRICS:
            outer, _, inner = path.partition(".")
            if outer in metrics:
                value = metrics[outer][inner] if inner else metrics[outer]
                found[path] = math.nan if value is None else float(value)
        return found


def read_pairs(path: str | os.PathLike[str]) -> list[PairRow]:
    """Read a table of pairs.

    Args:
        path: CSV or TSV file with a header. Columns: ``fixed``, ``moving``, ``transform``,
            ``inverse``, ``true_transform``, ``fixed_mask``, ``fixed_labels``, ``moving_labels``,
            ``fixed_points``, ``moving_points``, as the options of ``stn3d evaluate``;
            ``moved_labels`` instead of a transform; ``method``; and ``pair``, by default the names
            of the fixed and the moving file. Empty cells are not given. Paths are relative to the
            table's folder.

    Raises:
        InputError: the file cannot be read, a column is unknown, a row is incomplete or repeated,
            or a file does not exist.
    """
    rows = [_row(path, one) for one in read_pair_table(path, COLUMNS)]
    seen: dict[tuple[str, str], int] = {}
    for row in rows:
        other = seen.setdefault((row.pair, row.method), row.line)
        if other != row.line:
            raise InputError(
                f"{path}: lines {other} and {row.line} are both {shown_text(row.pair)} by "
                f"{shown_text(row.method)}; give pairs different names in the column pair, or "
                "methods in the column method."
            )
    return rows


def _row(path: str | os.PathLike[str], row: TableRow) -> PairRow:
    """A row, checked to be complete."""
    line, given = row.line, row.cells
    wanted = ("fixed_labels", "moved_labels") if "moved_labels" in given else ("fixed", "moving")
    for name in wanted:
        if name not in given:
            raise InputError(
                f"{path}, line {line}: no {name}; give fixed and moving, or fixed_labels and "
                "moved_labels."
            )
    folder = Path(path).parent
    files = {
        name: cell_path(folder, given[name], transform=name in _TRANSFORMS)
        for name in _FILES
        if name in given
    }
    for name, file in files.items():
        if name not in _TRANSFORMS and not os.path.exists(file):
            raise InputError(f"{path}, line {line}: there is no {name} {shown_text(file)}.")
    named = (given.get(name, "") for name in ("fixed", "moving"))
    pair = given.get("pair") or " <- ".join(Path(name).name for name in named if name)
    pair = pair or Path(given["fixed_labels"]).name
    return PairRow(line, pair, given.get("method", ""), files)


def evaluate_pairs(
    rows: Sequence[PairRow],
    options: EvaluationOptions | None = None,
    progress: Callable[[int, PairRow], None] | None = None,
) -> Iterator[PairResult]:
    """Evaluate pairs one after another.

    Args:
        rows: the pairs.
        options: what is measured.
        progress: called with the number of the pair, from 0, before each is evaluated.

    Raises:
        InputError: a pair cannot be evaluated; the message names its line.
    """
    for number, row in enumerate(rows):
        if progress is not None:
            progress(number, row)
        try:
            yield PairResult(row, evaluate_data(row.data(), options))
        except InputError as error:
            raise InputError(f"line {row.line} ({shown_text(row.pair)}): {error}") from error


def pairs_json(
    results: Sequence[PairResult], settings: BootstrapSettings | None = None
) -> dict[str, Any]:
    """Metrics of every pair, their summary by method, and comparisons; docs/evaluation.md.

    Args:
        results: the evaluated pairs.
        settings: settings of the bootstrap.
    """
    settings = settings or BootstrapSettings()
    by_method = values_by_method(results)
    summary = {
        method: {
            metric: dataclasses.asdict(summarise(list(values.values()), metric, settings))
            for metric, values in metrics.items()
        }
        for method, metrics in by_method.items()
    }
    found: dict[str, Any] = json_value(
        {
            "protocol": results[0].evaluation.options.protocol,
            "bootstrap": dataclasses.asdict(settings),
            "pairs": [
                {
                    "pair": one.row.pair,
                    "method": one.row.method,
                    "metrics": one.evaluation.to_dict(),
                }
                for one in results
            ],
            "summary": _without_nan(summary),
            "comparisons": [
                _without_nan({**dataclasses.asdict(one), "sentence": one.sentence()})
                for one in comparisons(by_method, settings)
            ],
        }
    )
    return found


def _without_nan(value: Any) -> Any:
    """Tuples as lists, with None for NaN; dictionaries are searched."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [_without_nan(inner) for inner in value]
    return json_value(value)


def values_by_method(results: Sequence[PairResult]) -> dict[str, dict[str, dict[str, float]]]:
    """Values by method, metric and pair; methods in the order of the table."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for one in results:
        metrics = found.setdefault(one.row.method, {})
        for metric, value in one.values().items():
            metrics.setdefault(metric, {})[one.row.pair] = value
    return found


def comparisons(
    by_method: dict[str, dict[str, dict[str, float]]], settings: BootstrapSettings
) -> list[Comparison]:
    """Every two methods in every metric that both have on common pairs."""
    found = []
    for first, second in itertools.combinations(by_method, 2):
        for metric, values in by_method[first].items():
            others = by_method[second].get(metric, {})
            one = compare(metric, (first, values), (second, others), settings)
            if one.n:
                found.append(one)
    return found
