"""The record of a pair: the last file that is written, with fingerprints of inputs and outputs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stn3d.cohort.fingerprints import Fingerprint, fingerprint, input_path, is_unchanged
from stn3d.cohort.layout import CohortFolder
from stn3d.cohort.pairs import CohortPair
from stn3d.cohort.request import CohortRequest
from stn3d.io import atomic_write

State = Literal["done", "error"]


@dataclass(frozen=True)
class PairRecord:
    """What became of a pair.

    Args:
        name: name of the pair.
        state: ``done`` if its results are written (of any quality status), or ``error``.
        error: why it could not be registered; empty if it was.
        tries: how often it was begun.
        request: digest of the settings and of stn3d's version.
        inputs: fingerprints by role.
        outputs: fingerprints by path relative to the cohort's folder.
        row: metrics, see `stn3d.report.table.row_of`.
        notes: warnings about geometry and memory.
        seconds: wall time of the last try, reading and saving included.
        cpu_seconds: its CPU time.
        peak_memory_gb: peak memory of the process, which may have registered other pairs before.
    """

    name: str
    state: State
    error: str = ""
    tries: int = 1
    request: str = ""
    inputs: dict[str, Fingerprint] = field(default_factory=dict)
    outputs: dict[str, Fingerprint] = field(default_factory=dict)
    row: dict[str, str | float | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_gb: float = 0.0

    def write(self, folder: CohortFolder) -> None:
        """Write the record in one step."""
        with atomic_write(folder.record(self.name)) as part:
            part.write_text(json.dumps(dataclasses.asdict(self)) + "\n", encoding="utf8")

    @property
    def status(self) -> str:
        """The quality status, or ``error``."""
        return str(self.row.get("status")) if self.state == "done" else "error"

    @property
    def reason(self) -> str:
        """The reason of the status, or the error."""
        return self.error or str(self.row.get("reason") or "")

    @property
    def has_failed(self) -> bool:
        """Whether it could not be registered, or the quality check says failed."""
        return self.status in ("failed", "error")


def read_record(folder: CohortFolder, name: str) -> PairRecord | None:
    """The record of a pair; None if there is none that can be read."""
    try:
        found = json.loads(folder.record(name).read_text(encoding="utf8"))
        return PairRecord(**found)
    except (OSError, ValueError, TypeError):
        return None


def is_finished(
    record: PairRecord | None,
    pair: CohortPair,
    request: CohortRequest,
    folder: CohortFolder,
    *,
    verify: bool = False,
) -> bool:
    """Whether a pair need not be registered again.

    Its record must be of the same settings and of the same version of stn3d, its inputs must be
    unchanged and its outputs whole. Contents are read where a size or a time says that they may
    differ, or where `verify` asks for it.

    Args:
        record: the record; None if there is none.
        pair: the pair.
        request: what is asked for.
        folder: the folder of the cohort.
        verify: read all inputs and outputs.
    """
    if record is None or record.state != "done" or record.request != request.digest:
        return False
    if record.inputs.keys() != pair.files.keys():
        return False
    return _are_inputs_unchanged(record, pair, verify) and all(
        _is_whole(folder.root / path, known, verify) for path, known in record.outputs.items()
    )


def _are_inputs_unchanged(record: PairRecord, pair: CohortPair, verify: bool) -> bool:
    return all(
        is_unchanged(input_path(role, path), record.inputs[role], read=verify)
        for role, path in pair.files.items()
    )


def _is_whole(path: Path, known: Mapping[str, str | int], verify: bool) -> bool:
    """Whether an output has its size, and its content if that is to be read."""
    try:
        size = path.stat().st_size
    except OSError:
        return False
    return size == known["size"] and (not verify or is_unchanged(str(path), known, read=True))


def output_fingerprints(folder: CohortFolder, files: list[Path]) -> dict[str, Fingerprint]:
    """Size and content of outputs, by their path in the cohort's folder."""
    found = {}
    for file in files:
        own: dict[str, Any] = fingerprint(str(file))
        own.pop("mtime_ns")  # a copied cohort is as whole
        found[file.relative_to(folder.root).as_posix()] = own
    return found
