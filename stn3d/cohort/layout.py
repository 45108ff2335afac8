"""The folder of a cohort: where results, records and locks are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

STATE = ".cohort"


@dataclass(frozen=True)
class CohortFolder:
    """Paths in the folder of a cohort.

    Args:
        root: the folder.
    """

    root: Path

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> CohortFolder:
        """The folder at a path, made absolute: workers may have another working directory."""
        return cls(Path(os.path.abspath(path)))

    @property
    def description(self) -> Path:
        """``cohort.json``: settings and versions of all pairs."""
        return self.root / "cohort.json"

    @property
    def summary(self) -> Path:
        """``summary.csv``: a row for each pair."""
        return self.root / "summary.csv"

    @property
    def index(self) -> Path:
        """``index.html``: the same as a page."""
        return self.root / "index.html"

    @property
    def records(self) -> Path:
        """Folder of the records of pairs."""
        return self.root / STATE / "records"

    @property
    def locks(self) -> Path:
        """Folder of the locks of pairs that are being registered."""
        return self.root / STATE / "locks"

    def record(self, name: str) -> Path:
        """The record of a pair."""
        return self.records / f"{name}.json"

    def lock(self, name: str) -> Path:
        """The lock of a pair."""
        return self.locks / f"{name}.lock"
