"""Names of labels: BIDS and other tables, FreeSurfer, 3D Slicer and ITK-SNAP."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence

from stn3d.errors import InputError, shown_text
from stn3d.io.texts import read_text

_MOST_MB = 16
_NUMBER_COLUMNS = ("index", "id", "label", "value", "no", "no.", "number", "labelid", "roi")
_NAME_COLUMNS = ("name", "label_name", "labelname", "abbreviation", "structure", "region", "label")
_SNAP = re.compile(r'(\d+)\s+.*"(.*)"\s*')
_PLAIN = re.compile(r"(\d+)\s+(.+?)(?:(?:\s+\d+){3,4})?\s*")


def read_label_table(path: str | os.PathLike[str]) -> dict[int, str]:
    """Read the names of labels.

    Args:
        path: one of

            * a table (.tsv, .csv) with a header: columns ``index`` and ``name`` as in BIDS, or
              ``id``, ``label``, ``value`` for the number;
            * a FreeSurfer or 3D Slicer colour table: lines of number, name and optionally colours;
            * an ITK-SNAP label file: lines of number, colours and a name in quotation marks.

            Lines that begin with # are comments.

    Returns:
        The name of each label, in the order of the file.

    Raises:
        InputError: the file cannot be read, holds no label, or names a label twice.
    """
    text = read_text(path, "label table", "give a table of label numbers and names", _MOST_MB)
    lines = [one for one in text.splitlines() if one.strip() and not one.lstrip().startswith("#")]
    delimiter = next((mark for mark in "\t,;" if lines and mark in lines[0]), None)
    header = [] if delimiter is None else _cells(lines[0], delimiter, path)
    titles = [cell.strip().casefold() for cell in header]
    numbers = next((titles.index(title) for title in _NUMBER_COLUMNS if title in titles), None)
    names = next(
        (
            titles.index(title)
            for title in _NAME_COLUMNS
            if title in titles and titles.index(title) != numbers
        ),
        None,
    )
    if delimiter is not None and numbers is not None and names is not None:
        rows = [(_cells(line, delimiter, path), line) for line in lines[1:]]
        found = [_from_row(cells, numbers, names, line, path) for cells, line in rows]
    else:
        found = [_from_line(line, path) for line in lines]
    if not found:
        raise InputError(f"{path} holds no label; give a table of label numbers and names.")
    table: dict[int, str] = {}
    for label, name in found:
        if label in table and table[label] != name:
            raise InputError(f"{path} names label {label} twice; give each label one name.")
        table[label] = name
    return table


def _cells(line: str, delimiter: str, path: str | os.PathLike[str]) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter))
    except csv.Error:
        raise _not_a_label(line, path) from None


def _from_row(
    cells: Sequence[str], number: int, name: int, line: str, path: str | os.PathLike[str]
) -> tuple[int, str]:
    if len(cells) > max(number, name) and re.fullmatch(r"\s*\d{1,18}(\.0+)?\s*", cells[number]):
        return int(cells[number].partition(".")[0]), cells[name].strip()
    raise _not_a_label(line, path)


def _from_line(line: str, path: str | os.PathLike[str]) -> tuple[int, str]:
    parts = _SNAP.fullmatch(line.strip()) or _PLAIN.fullmatch(line.strip())
    if parts is None or len(parts[1]) > 18:
        raise _not_a_label(line, path)
    return int(parts[1]), parts[2].strip()


def _not_a_label(line: str, path: str | os.PathLike[str]) -> InputError:
    return InputError(
        f"{path}: the line {shown_text(line.strip())} is no number with a name; give a table with "
        "the columns index and name, or a FreeSurfer, 3D Slicer or ITK-SNAP label file."
    )
