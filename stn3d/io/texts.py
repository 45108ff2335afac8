"""Text files of users: read up to a size, and parsed as JSON or YAML without surprises."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from stn3d.errors import InputError


def read_text(path: str | os.PathLike[str], what: str, advice: str, most_mb: int) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Args:
        path: the file; pipes are read too.
        what: what the file is, for messages: ``point file``.
        advice: what to give instead of a file that is no text.
        most_mb: size in MB up to which such a file is plausible.

    Raises:
        InputError: the file cannot be opened, is larger, or is not a text.
    """
    most = most_mb * 2**20
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except FileNotFoundError:
        raise InputError(f"there is no {what} {shown_path(path)}; check the path.") from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or "no file can have this name"
        raise InputError(
            f"cannot read the {what} {shown_path(path)} ({reason}); check the path."
        ) from None
    if len(content) > most:
        raise InputError(f"the {what} {path} is larger than {most_mb} MB; {advice}.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"the {what} {path} is not a text file; {advice}.") from None


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path for messages, shortened if it is longer than any file's."""
    text = os.fspath(path).encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return text if len(text) <= 300 else f"{text[:140]}...{text[-140:]}"


def csv_rows(
    lines: Iterable[str], path: str | os.PathLike[str], separator: str = ","
) -> list[tuple[int, list[str]]]:
    """Rows of a table with their line numbers.

    Args:
        lines: its lines.
        path: the file, for messages.
        separator: what separates the cells.

    Raises:
        InputError: the table is damaged, for example by a quotation mark that is never closed.
    """
    reader = csv.reader(lines, delimiter=separator)
    try:
        return [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(
            f"{shown_path(path)}, line {reader.line_num}: {error}; check the quotation marks and "
            "the commas."
        ) from None


def parse_json(text: str) -> Any:
    """The content of a JSON text.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    return _parsed(json.loads, text)


def parse_yaml(text: str) -> Any:
    """The content of a YAML text: numbers, texts, lists and mappings, and nothing executable.

    Raises:
        ValueError: it is not YAML, or nested too deeply.
    """
    import yaml

    return _parsed(yaml.safe_load, text)


def _parsed(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError:
        raise
    except Exception as error:  # yaml.YAMLError, and what its constructors raise for odd values
        raise ValueError(str(error).partition("\n")[0] or type(error).__name__) from None


def without_surrogates(text: str) -> str:
    """A text that UTF-8 can hold: halves of characters, which JSON allows, become ``?``."""
    return text.encode("utf-8", "replace").decode("utf-8")
