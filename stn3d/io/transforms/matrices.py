"""Matrices in text files: one row a line."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from stn3d.errors import InputError
from stn3d.io.files import atomic_write
from stn3d.io.geometry import Matrix
from stn3d.io.texts import read_text
from stn3d.io.transforms.base import beginning

_MAX_MB = 1
_ADVICE = "give a transform's text file"


def matrix_text(path: Path) -> str:
    """The text of a file of numbers.

    Raises:
        InputError: the file does not exist, or is not a short text.
    """
    return read_text(path, "transform file", _ADVICE, _MAX_MB)


def rows_of(text: str) -> list[list[float]]:
    """The numbers of each line; comments after ``#`` and empty lines are skipped.

    Raises:
        ValueError: a word is not a finite number.
    """
    rows = [[float(word) for word in line.split("#")[0].split()] for line in text.splitlines()]
    if not all(math.isfinite(number) for row in rows for number in row):
        raise ValueError("a number is not finite")
    return [row for row in rows if row]


def read_matrix(path: Path, sizes: tuple[int, ...], what: str) -> Matrix:
    """Read a square matrix.

    Args:
        path: the file.
        sizes: numbers of rows that are allowed.
        what: what the file is, for messages: ``an FSL matrix``.

    Raises:
        InputError: the file does not exist, or does not hold such a matrix.
    """
    text = matrix_text(path)
    try:
        rows = rows_of(text)
    except ValueError:
        rows = []
    if len(rows) not in sizes or any(len(row) != len(rows) for row in rows):
        shapes = " or ".join(f"{n} x {n}" for n in sizes)
        raise InputError(
            f"{path} cannot be read as a transform: {what} is a text of {shapes} numbers; check "
            "that it is complete."
        )
    return np.array(rows)


def is_matrix(path: Path, sizes: tuple[int, ...]) -> bool:
    """Whether a file holds nothing but a square matrix."""
    content = beginning(path)
    if not content or b"\0" in content:
        return False
    try:
        rows = rows_of(content.decode("ascii"))
    except ValueError:
        return False
    return len(rows) in sizes and all(len(row) == len(rows) for row in rows)


def write_matrix(path: Path, matrix: Matrix) -> None:
    """Write a matrix, atomically, with all digits.

    Raises:
        InputError: the file cannot be written.
    """
    lines = ["  ".join(f"{number:.17g}" for number in row) for row in matrix.tolist()]
    with atomic_write(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="ascii")
