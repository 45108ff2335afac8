"""An index of many registrations: a table to sort, filter and review, worst first."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stn3d.io import atomic_write
from stn3d.report.folder import registrations_in
from stn3d.report.page.render import json_data, rendered
from stn3d.report.picture import thumbnail_in
from stn3d.report.table import Row

_STATUSES = ("error", "failed", "check", "good")  # worst first
# Column of the row, heading, decimals, and whether higher (1) or lower (-1) is better.
_SHOWN: tuple[tuple[str, str, int, int], ...] = (
    ("dice_after", "Dice", 3, 1),
    ("hd95_mm_after", "HD95, mm", 2, -1),
    ("tre_mm_after", "TRE, mm", 2, -1),
    ("correlation_after", "Corr.", 3, 1),
    ("local_correlation_after", "Local corr.", 3, 1),
    ("folding_pct", "Folding, %", 3, -1),
    ("log_jacobian_sd", "SD log J", 3, -1),
    ("inverse_consistency_error_mm", "Inv. err., mm", 3, -1),
    ("time_s", "Time, s", 1, 0),
)


@dataclass(frozen=True)
class IndexEntry:
    """A registration in an index.

    Args:
        name: its name, unique in the index.
        folder: folder of its files; None if there are none.
        row: its metrics, see `stn3d.report.table.row_of`; empty if it failed to run.
        error: why it has no result.
    """

    name: str
    folder: Path | None
    row: Mapping[str, Any] | Row
    error: str = ""


def write_index(out: Path, entries: Sequence[IndexEntry]) -> Path:
    """Write the index of many registrations.

    Args:
        out: folder for index.html; links to the pages of the registrations are relative to it.
        entries: the registrations.

    Returns:
        The file.

    Raises:
        InputError: the file cannot be written.
    """
    rows = [_row(out, entry) for entry in entries]
    shown = [
        {"key": key, "name": name, "decimals": decimals, "better": better}
        for key, name, decimals, better in _SHOWN
        if any(row["values"].get(key) is not None for row in rows)
    ]
    counts = {s: sum(row["status"] == s for row in rows) for s in _STATUSES}
    content = {
        "data": json_data({"rows": rows, "columns": shown, "statuses": _STATUSES}),
        "counts": [(status, count) for status, count in counts.items() if count],
        "total": len(rows),
        "columns": shown,
    }
    path = out / "index.html"
    with atomic_write(path) as part:
        page = rendered("index.html.j2", content, ["index.js"], "index.css")
        part.write_text(page, encoding="utf8")
    return path


def _row(out: Path, entry: IndexEntry) -> dict[str, Any]:
    """What the index shows of one registration."""
    values = {key: entry.row.get(key) for key, *_ in _SHOWN}
    status = str(entry.row.get("status") or "error")
    page, thumbnail = _files(out, entry)
    return {
        "name": entry.name,
        "status": "error" if entry.error or status not in _STATUSES else status,
        "reason": entry.error or entry.row.get("reason") or "",
        "fixed": entry.row.get("fixed") or "",
        "moving": entry.row.get("moving") or "",
        "kind": entry.row.get("kind") or "",
        "values": values,
        "page": page,
        "thumbnail": thumbnail,
    }


def _files(out: Path, entry: IndexEntry) -> tuple[str, str]:
    """Relative address of the page, and the thumbnail as a data URI; empty where there is none."""
    if entry.folder is None:
        return "", ""
    found = registrations_in(entry.folder)
    if len(found) > 1:  # files with BIDS names
        found = [one for one in found if one.name == entry.name]
    if not found or not found[0].page.is_file():
        return "", ""
    relative = os.path.relpath(found[0].page, out).replace(os.sep, "/")
    small = thumbnail_in(found[0].picture)
    uri = "" if small is None else f"data:image/webp;base64,{base64.b64encode(small).decode()}"
    return quote(relative), uri
