"""Command-line options of a study, declared once as the fields of a frozen dataclass."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from scripts.bench.paths import ROOT

T = TypeVar("T")


def option(default: Any, text: str, choices: Sequence[str] = ()) -> Any:
    """A field with a default that becomes an option of the command line.

    Args:
        default: value where the option is not given.
        text: what ``--help`` prints.
        choices: allowed values; empty allows all.
    """
    return field(default=default, metadata={"help": text, "choices": choices})


def required(text: str) -> Any:
    """A field without a default: the option must be given."""
    return field(metadata={"help": text, "choices": ()})


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of every study."""

    out: Path = required("folder of the results; docs/results/STUDY by default")
    threads: int = option(2, "CPU threads of every tool")


def add_options(
    parser: argparse.ArgumentParser, kind: type[Any], defaults: Mapping[str, Any]
) -> None:
    """Add the fields of a dataclass as options; the values of ``defaults`` replace its defaults."""
    hints = get_type_hints(kind)
    for found in dataclasses.fields(kind):
        default = defaults.get(found.name, found.default)
        missing = default is dataclasses.MISSING
        names = [f"--{found.name.replace('_', '-')}"]
        text = found.metadata["help"]
        if hints[found.name] is bool:
            parser.add_argument(*names, action="store_true", help=text)
            continue
        if not missing and default not in (None, ""):
            text = f"{text} (default: {default})".replace("%", "%%")
        parser.add_argument(
            *names,
            type=_type(hints[found.name]),
            default=None if missing else default,
            required=missing,
            choices=found.metadata["choices"] or None,
            help=text,
        )


def options_from(kind: type[T], parsed: argparse.Namespace) -> T:
    """The dataclass with the values of a parsed command line."""
    return kind(**vars(parsed))


def command_line(study: str, options: RunOptions) -> str:
    """The command that runs a study with these options, without the program and the defaults."""
    words = [study, "run"]
    for found in dataclasses.fields(options):
        value = getattr(options, found.name)
        if found.name == "again" or value == found.default:
            continue
        if isinstance(value, Path) and value.is_relative_to(ROOT):
            value = value.relative_to(ROOT)
        words.append(f"--{found.name.replace('_', '-')}")
        words += [] if value is True else [str(value)]
    return shlex.join(words)


def _type(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        return next(kind for kind in get_args(hint) if kind is not type(None))
    return hint
