"""Figures in a file of JSON lines, row by row: a run that was cut off goes on where it stood."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def begin(path: Path, head: Row, keys: Sequence[str]) -> set[tuple[Any, ...]]:
    """Open a file of figures, or go on with one.

    Args:
        path: the file.
        head: its first line, what all rows have in common, such as the machine.
        keys: what tells rows apart.

    Returns:
        The keys of the rows that it holds.

    Raises:
        SystemExit: it was measured with another head.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        append(path, head)
        return set()
    content = path.read_text(encoding="utf-8")
    if not content.endswith("\n"):  # cut off while it wrote
        path.write_text(content[: content.rfind("\n") + 1], encoding="utf-8")
    was, rows = read(path, keys)
    if was != head:
        raise SystemExit(f"{path} was measured with {was}, now it is {head}; give another --work.")
    return {key_of(row, keys) for row in rows}


def measure(
    path: Path,
    head: Row,
    keys: Sequence[str],
    wanted: Iterable[Row],
    measured: Callable[[Row], Row],
) -> tuple[Row, list[Row]]:
    """Add the rows that a file of figures does not hold yet, each as soon as it is measured.

    Args:
        path: the file.
        head: see `begin`.
        keys: see `begin`.
        wanted: what each row starts with, its keys at least.
        measured: the figures of such a row.

    Returns:
        The head and all rows.
    """
    known = begin(path, head, keys)
    for row in wanted:
        if key_of(row, keys) not in known:
            row = row | measured(row)
            print(json.dumps(row), flush=True)
            append(path, row)
    return read(path, keys)


def append(path: Path, row: Row) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def read(path: Path, keys: Sequence[str]) -> tuple[Row, list[Row]]:
    """The head and the rows; of rows with equal keys the last counts.

    Raises:
        SystemExit: a line is no JSON.
    """
    try:
        head, *rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError:
        raise SystemExit(f"{path} is damaged or empty; take it away and measure again.") from None
    return head, list({key_of(row, keys): row for row in rows}.values())


def key_of(row: Row, keys: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[key] for key in keys)


def write_page(out: Path, head: Row, rows: Sequence[Row], text: str) -> None:
    """OUT.json, the head and a line for each row, and OUT.md."""
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    common = json.dumps(head)[1:-1]
    content = f'{{{common},\n "rows": [\n{lines}\n]}}\n'
    out.with_suffix(".json").write_text(content, encoding="utf-8")
    out.with_suffix(".md").write_text(text, encoding="utf-8")
