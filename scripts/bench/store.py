"""The result format of all studies: one JSON file with a head and rows.

    {
     "schema_version": 1,
     "study": "brains",
     "machine": "AMD EPYC, 2 cores",
     "versions": {"python": "3.11.7", "stn3d": "0.1.0"},
     "threads": 2,
     "rows": [
      {"pair": "1000 <- 1001", "tool": "stn3d default", "dice": 0.66, ...},
      ...
     ]
    }

The head holds what all rows share; what rows differ in, such as the machine of each in a study that
runs on several, is in the rows. A row holds plain values, with units in the names of its keys as in
metrics.json. A row without an outcome has a ``failed`` key with the reason and is measured again by
the next run. The file is rewritten after each row, completely or not at all, so an interrupted run
continues with the first missing row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.bench.machine import versions

SCHEMA_VERSION = 1
RESULTS_FILE = "results.json"
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Results:
    """What one file holds.

    Args:
        study: name of the study that wrote it.
        head: what all rows share, such as ``machine`` and ``threads``.
        rows: one dictionary for each measurement.
    """

    study: str
    head: Row
    rows: list[Row] = field(default_factory=list)

    @property
    def done(self) -> list[Row]:
        """The rows with an outcome."""
        return [row for row in self.rows if "failed" not in row]

    @property
    def failed(self) -> list[Row]:
        """The rows without an outcome; ``failed`` is the reason."""
        return [row for row in self.rows if "failed" in row]


def read(path: Path) -> Results:
    """Read a file of results.

    Args:
        path: the file, or the folder that holds it as ``results.json``.

    Raises:
        SystemExit: there is no such file, or it is not in this format.
    """
    path = path / RESULTS_FILE if path.is_dir() else path
    if not path.is_file():
        raise SystemExit(f"There is no file {path}; give a folder that a study wrote.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, study = content.pop("schema_version"), content.pop("study")
        rows = content.pop("rows")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SystemExit(
            f"{path} is damaged or not a file of results; remove it and measure again."
        ) from None
    if version != SCHEMA_VERSION:
        raise SystemExit(f"{path} has schema version {version}; expected {SCHEMA_VERSION}.")
    return Results(study, content, rows)


def write(path: Path, results: Results) -> None:
    """Write a file of results, one line for each row, completely or not at all."""
    head = {"schema_version": SCHEMA_VERSION, "study": results.study, **results.head}
    lines = [f" {json.dumps(key)}: {json.dumps(_plain(value))}," for key, value in head.items()]
    rows = ",\n".join(f"  {json.dumps(_plain(row))}" for row in results.rows)
    write_text(path, "\n".join(["{", *lines, ' "rows": [', rows, " ]", "}"]) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, completely or not at all; missing folders are created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


class Store:
    """A file of results that a run adds rows to.

    Args:
        path: the file, or the folder that holds it as ``results.json``; created with the first row.
        study: name of the study.
        keys: keys that identify a row.
        conditions: what all rows must share, such as ``machine`` and ``threads``.
        notes: further entries of the head, which may change from run to run.
        command: what the page shows as the command; the one that is stored goes before.

    Raises:
        SystemExit: the file was measured under other conditions or by another study.
    """

    def __init__(
        self,
        path: Path,
        study: str,
        keys: Sequence[str],
        conditions: Row,
        notes: Row | None = None,
        command: str = "",
    ) -> None:
        self.path = path if path.suffix == ".json" else path / RESULTS_FILE
        self.keys = tuple(keys)
        old = read(self.path) if self.path.exists() else Results(study, conditions)
        for name, now in {"study": study, **conditions}.items():
            was = old.study if name == "study" else old.head.get(name)
            if was != now:
                raise SystemExit(
                    f"{self.path} was measured with {name} {was!r}, now it is {now!r}: "
                    "the rows would not be comparable. Give another --out."
                )
        head: Row = {"command": command} | old.head | conditions
        head |= {"versions": versions()} | (notes or {})
        self.results = Results(study, head, old.rows)

    @property
    def rows(self) -> list[Row]:
        """All rows."""
        return self.results.rows

    def has(self, row: Row) -> bool:
        """Whether there is a row with these keys that has an outcome."""
        return any(self._key(old) == self._key(row) for old in self.results.done)

    def add(self, row: Row, show: bool = True) -> None:
        """Add a row, or replace the one with the same keys, and write the file."""
        rows = {self._key(old): old for old in self.rows}
        rows[self._key(row)] = _plain(row)
        self.replace(rows.values())
        if show:
            print(json.dumps(row), flush=True)

    def replace(self, rows: Iterable[Row]) -> None:
        """Put other rows in place of all rows, such as the same with derived values, and write."""
        self.results.rows[:] = list(rows)
        write(self.path, self.results)

    def measure(
        self, wanted: Iterable[Row], measured: Callable[[Row], Row], again: bool = False
    ) -> None:
        """Measure the wanted rows that have no outcome yet, and add each as soon as it has.

        Args:
            wanted: the first entries of each row, its keys among them.
            measured: returns the further entries of such a row.
            again: measure rows that have an outcome too.
        """
        for row in wanted:
            if again or not self.has(row):
                self.add(row | measured(row))

    def _key(self, row: Row) -> str:
        return json.dumps([row[key] for key in self.keys])


def _plain(value: Any) -> Any:
    """The value with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
