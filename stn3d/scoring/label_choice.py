"""Labels named by the user: numbers, ranges, and names from a label table."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from stn3d.errors import InputError, shown_text

_RANGE = re.compile(r"(\d+)\s*-\s*(\d+)")
_MOST = 100_000  # labels in all ranges


def chosen_labels(text: str, names: Mapping[int, str] | None = None) -> list[int]:
    """The labels that a text lists, in its order and without repetitions.

    Args:
        text: numbers, ranges (``10-13``) and names, separated by commas. A name of the table wins
            over a range; upper and lower case are equal.
        names: names of labels, see `stn3d.io.read_label_table`.

    Raises:
        InputError: an entry is neither a number, a range nor a name of the table.
    """
    names = {} if names is None else names
    numbers: dict[str, list[int]] = {}
    for label, name in names.items():
        numbers.setdefault(name.casefold(), []).append(label)
    found: list[int] = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        found += _labels_of(entry, numbers, bool(names))
        if len(found) > _MOST:
            raise InputError(f"--labels lists more than {_MOST:,} labels; give shorter ranges.")
    if not found:
        raise InputError("--labels lists no label; give numbers, ranges or names: 4,10-13.")
    if 0 in found:
        raise InputError("--labels lists 0, which is the background; give labels from 1 upward.")
    return list(dict.fromkeys(found))


def _labels_of(entry: str, numbers: Mapping[str, list[int]], has_names: bool) -> list[int]:
    """The labels of one entry."""
    if entry.casefold() in numbers:
        return numbers[entry.casefold()]
    if re.fullmatch(r"\d{1,18}", entry):
        return [int(entry)]
    limits = _RANGE.fullmatch(entry)
    if limits is not None and len(entry) < 40:
        first, last = int(limits[1]), int(limits[2])
        if first > last:
            raise InputError(
                f"the range {entry} in --labels runs backward; give {last}-{first} instead."
            )
        return list(range(first, min(last, first + _MOST) + 1))
    if not has_names:
        raise InputError(
            f"--labels holds {shown_text(entry)}, which is no number or range; give --label-table "
            "for names of labels."
        )
    near = difflib.get_close_matches(entry.casefold(), numbers, 1, 0)
    raise InputError(
        f"--labels holds {shown_text(entry)}, which is not in the label table; "
        f"did you mean {near[0]}?"
    )
