"""Tables of image pairs: reading them, and names for pairs that have none.

`stn3d.scoring`, `stn3d.cohort` and `stn3d.data` read their pairs through this module.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stn3d.choices import check_known
from stn3d.errors import InputError
from stn3d.io.image_output import ITK_SUFFIXES, NIFTI_SUFFIXES
from stn3d.io.texts import csv_rows, read_text

ROLES = ("fixed", "moving")
_MOST_MB = 64


@dataclass(frozen=True)
class TableRow:
    """A row of a table of pairs.

    Args:
        line: its line in the file, from 1.
        cells: the cells that are not empty, by column.
    """

    line: int
    cells: dict[str, str]


def read_pair_table(path: str | os.PathLike[str], columns: Sequence[str]) -> list[TableRow]:
    """The rows of a CSV or TSV file with a header; empty lines are skipped.

    Args:
        path: the table.
        columns: columns that it may have.

    Raises:
        InputError: the file cannot be read, a column is unknown or repeated, a row has more cells
            than there are columns, or there are no rows.
    """
    text = read_text(path, "table of pairs", "give a CSV file", _MOST_MB)
    first = text.partition("\n")[0]
    lines = csv_rows(text.splitlines(), path, "\t" if "\t" in first else ",")
    header = [name.strip() for name in lines[0][1]] if lines else []
    if not header:
        raise InputError(f"{path} is empty; give a header line and a line for each pair.")
    for name in header:
        check_known(f"column in {path}", name, tuple(columns))
    if len(set(header)) < len(header):
        raise InputError(f"{path} has two columns of one name; give each column once.")
    rows = [
        _row(path, number, header, cells)
        for number, cells in lines[1:]
        if any(c.strip() for c in cells)
    ]
    if not rows:
        raise InputError(f"{path} has a header and no pairs; add a line for each pair.")
    return rows


def _row(
    path: str | os.PathLike[str], line: int, header: Sequence[str], cells: Sequence[str]
) -> TableRow:
    if len(cells) > len(header):
        raise InputError(f"{path}, line {line}: {len(cells)} cells for {len(header)} columns.")
    given = {name: cell.strip() for name, cell in zip(header, cells, strict=False) if cell.strip()}
    return TableRow(line, given)


def cell_path(folder: Path, cell: str, *, transform: bool = False) -> str:
    """The path of a cell, relative to the table's folder.

    Args:
        folder: the table's folder.
        cell: the cell.
        transform: the cell may be ``FORMAT:FILE`` or ``inverse:FILE``; the prefix stays.
    """
    prefix, mark, rest = cell.rpartition(":")
    if transform and mark and not os.path.exists(folder / cell) and len(prefix) > 1:
        return f"{prefix}:{folder / rest}"
    return str(folder / cell)


def pair_names(pairs: Sequence[Mapping[str, str]]) -> list[str]:
    """A name for each pair, ``MOVING_to_FIXED`` after its files; no two pairs share one.

    Where files in several folders are named alike, the folders that differ precede the names of the
    files: ``sub-02_t1_to_sub-01_t1``. Pairs of the same two files are numbered.

    Args:
        pairs: Pairs with the keys ``fixed`` and ``moving``.
    """
    files = [tuple(Path(os.path.abspath(pair[role])) for role in ROLES[::-1]) for pair in pairs]
    alike: dict[str, list[tuple[Path, ...]]] = {}
    for one in dict.fromkeys(files):
        alike.setdefault(_name(one, 0).casefold(), []).append(one)
    names = {one: name for group in alike.values() for one, name in _distinct(group).items()}
    return _numbered([names[one] for one in files])


def _distinct(group: Sequence[tuple[Path, ...]]) -> dict[tuple[Path, ...], str]:
    """Names with as few folders as distinguish pairs of files, or none where folders do not."""
    deepest = max(len(path.parts) for one in group for path in one)
    for depth in range(deepest):
        names = {one: _name(one, depth) for one in group}
        if len({name.casefold() for name in names.values()}) == len(group):
            return names
    return {one: _name(one, 0) for one in group}


def _name(files: Sequence[Path], depth: int) -> str:
    """The names of files, each preceded by those of ``depth`` folders."""
    folders = [path.parts[1:-1][-depth:] if depth else () for path in files]
    stems = [file_stem(path) or path.name for path in files]
    return "_to_".join("_".join([*up, stem]) for up, stem in zip(folders, stems, strict=True))


def _numbered(names: Sequence[str]) -> list[str]:
    """The names with ``_2`` and so on where one has occurred before, in upper or lower case."""
    taken: set[str] = set()
    found = []
    for name in names:
        tried = itertools.chain([name], (f"{name}_{n}" for n in itertools.count(2)))
        one = next(one for one in tried if one.casefold() not in taken)
        taken.add(one.casefold())
        found.append(one)
    return found


def file_stem(file: Path) -> str | None:
    """The name without its extension; None unless it is an image or a table of points."""
    suffixes = (*NIFTI_SUFFIXES, *ITK_SUFFIXES, ".mgz", ".csv")
    found = next((s for s in sorted(suffixes, key=len)[::-1] if file.name.endswith(s)), None)
    return None if found is None else file.name.removesuffix(found)
