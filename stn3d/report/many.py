"""Reports and the index of many registrations, from their folders."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from stn3d.errors import InputError
from stn3d.io.texts import csv_rows, read_text
from stn3d.registration.folders import make_folder
from stn3d.report.folder import ResultFiles, registrations_below, write_report, write_report_of
from stn3d.report.index import IndexEntry, write_index
from stn3d.report.table import row_of

_SUMMARY = "summary.csv"
_MOST_MB = 256  # of a summary


def report_of(
    folders: Sequence[Path], out: Path | None = None, *, again: bool = False
) -> tuple[list[Path], list[str]]:
    """Make the pages of registrations that have none, and an index of several.

    Args:
        folders: folders of registrations, or folders above them, such as that of a cohort.
        out: folder for index.html. Default: the folder that holds all registrations.
        again: make pages that are there already once more.

    Returns:
        The files written, and notes on registrations without a page.

    Raises:
        InputError: there is no registration; of a single one also that its page cannot be made.
    """
    found = list(dict.fromkeys(one for folder in folders for one in _existing(folder)))
    failed = [one for folder in folders for one in _failures(folder)]
    if not found and not failed:
        raise InputError(
            f"{', '.join(map(str, folders))}: no metrics.json of a registration is there or below; "
            "give folders as written by stn3d register."
        )
    if len(found) == 1 and not failed and out is None:
        return write_report(found[0].folder), []
    base = Path(os.path.commonpath([os.path.abspath(folder) for folder in folders]))
    written, notes, entries = [], [], []
    for files in found:
        if again or not files.page.is_file():
            try:
                written += write_report_of(files)
            except InputError as error:
                notes.append(str(error))
        entries.append(_entry(files, base))
    entries += [one for one in failed if one.name not in {entry.name for entry in entries}]
    index = write_index(make_folder(base if out is None else out), entries)
    pages = [index, *written[:2]] if len(written) <= 2 else [index]
    return pages, notes


def _existing(folder: Path) -> Iterator[ResultFiles]:
    """Registrations in a folder and below, without other files of the same name."""
    if not os.path.isdir(folder):
        raise InputError(f"there is no folder {folder}; give the folder of a registration.")
    for files in registrations_below(folder):
        try:
            files.content()
        except InputError:  # of a series, or of landmarks
            continue
        yield files


def _entry(files: ResultFiles, base: Path) -> IndexEntry:
    relative = os.path.relpath(os.path.abspath(files.folder), base)
    place = os.path.basename(os.path.abspath(files.folder)) if relative == "." else relative
    return IndexEntry(files.name or place, files.folder, row_of(files.content()))


def _failures(folder: Path) -> Iterator[IndexEntry]:
    """Pairs of a cohort that have no result, from its summary.csv."""
    path = folder / _SUMMARY
    if not path.is_file():
        return
    text = read_text(path, "summary of a cohort", "give the folder of a cohort", _MOST_MB)
    rows = [cells for _, cells in csv_rows(io.StringIO(text, newline=""), path)]
    for cells in rows[1:]:
        line = dict(zip(rows[0], cells, strict=False))
        if line.get("error") and line.get("name"):
            yield IndexEntry(line["name"], None, {}, line["error"])
