"""The result of a cohort, its summary.csv and its index.html, from the records of its pairs."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stn3d.cohort.layout import CohortFolder
from stn3d.cohort.pairs import CohortPair
from stn3d.cohort.record import PairRecord
from stn3d.io import atomic_write
from stn3d.report.index import IndexEntry, write_index
from stn3d.report.table import COLUMNS

_OWN = ("name", "state", "error", "tries")
_ORDER = {"error": 0, "failed": 1, "check": 2, "good": 3}
_MOST_IN_INDEX = 2000  # a page of more thumbnails is too large for a browser
_BIDS_METRICS = "_desc-registration_metrics.json"
_LAST = ("seconds", "cpu_seconds", "peak_memory_gb", "notes")


@dataclass(frozen=True)
class CohortResult:
    """What became of a cohort.

    Args:
        folder: the folder of the cohort.
        pairs: all pairs, in order.
        records: the record of each pair that has one, by name.
        interruption: why the run ended early; empty if it did not.
    """

    folder: CohortFolder
    pairs: Sequence[CohortPair]
    records: Mapping[str, PairRecord]
    interruption: str = ""

    def counts(self) -> dict[str, int]:
        """How many pairs are ``good``, ``check``, ``failed``, ``error`` and ``open``."""
        found = dict.fromkeys(("good", "check", "failed", "error", "open"), 0)
        for pair in self.pairs:
            record = self.records.get(pair.name)
            found["open" if record is None else record.status] += 1
        return found

    def failures(self, most: int) -> list[str]:
        """A line for each of the first pairs that failed, with the reason."""
        found = [record for pair in self.pairs if (record := self.records.get(pair.name))]
        bad = [record for record in found if record.has_failed]
        lines = [f"{one.name}: {one.status}; {one.reason}" for one in bad[:most]]
        return lines + ([f"... and {len(bad) - most} more"] if len(bad) > most else [])

    @property
    def pages(self) -> list[Path]:
        """The pages that were written."""
        return [page for page in (self.folder.index,) if page.exists()]

    @property
    def has_failed(self) -> bool:
        """Whether a pair failed, could not be registered, or is still open."""
        counts = self.counts()
        return any(counts[name] for name in ("failed", "error", "open"))


def write_summary(
    folder: CohortFolder, pairs: Sequence[CohortPair], records: Mapping[str, PairRecord]
) -> None:
    """Write summary.csv, a row for each pair in order, and index.html of the worst pairs.

    Args:
        folder: the folder of the cohort.
        pairs: all pairs.
        records: their records, by name; a pair without one is ``open``.

    Raises:
        InputError: a file cannot be written.
    """
    with atomic_write(folder.summary) as part, part.open("w", encoding="utf8", newline="") as file:
        table = csv.DictWriter(file, [*_OWN, *COLUMNS, *_LAST], extrasaction="ignore")
        table.writeheader()
        table.writerows(summary_row(pair, records.get(pair.name)) for pair in pairs)
    found = [(pair, records[pair.name]) for pair in pairs if pair.name in records]
    worst = sorted(found, key=lambda one: _ORDER.get(one[1].status, 0))  # stable: as in the table
    write_index(folder.root, [_entry(folder, *one) for one in worst[:_MOST_IN_INDEX]])


def _entry(folder: CohortFolder, pair: CohortPair, record: PairRecord) -> IndexEntry:
    """A pair in the index, by the name that its files have."""
    if record.state == "error":
        row = {role: pair.files[role] for role in ("fixed", "moving")}
        return IndexEntry(pair.name, None, row, record.error)
    bids = (Path(path).name for path in record.outputs if path.endswith(_BIDS_METRICS))
    name = next((one.removesuffix(_BIDS_METRICS) for one in bids), pair.name)
    return IndexEntry(name, folder.root / pair.folder, record.row)


def summary_row(pair: CohortPair, record: PairRecord | None) -> dict[str, Any]:
    """The row of a pair; empty cells where a value is not defined."""
    row: dict[str, Any] = {"name": pair.name, "state": "open", "tries": 0}
    row |= {role: pair.files[role] for role in ("fixed", "moving")}
    if record is None:
        return row
    own = {name: getattr(record, name) for name in (*_OWN, *_LAST)}
    return row | record.row | own | {"notes": " ".join(record.notes)}
