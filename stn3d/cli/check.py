"""The command `check`: whether two images can be registered, and what to watch."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from stn3d.cli import options, screen
from stn3d.cli.process import slow_imports


def check(
    fixed: options.Fixed,
    moving: options.Moving,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not sentences.")] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Check two images before a registration: headers, sizes, intensities, overlap, memory.

    Exits with code 2 if register would refuse them.
    """
    with screen.opened(f"checking {fixed.name} and {moving.name}", quiet, verbose) as shown:
        with slow_imports():
            from stn3d.inspection import summarise_pair

        summary = summarise_pair(fixed, moving)
        if as_json:
            typer.echo(json.dumps(summary.as_dict(), indent=2))
        else:
            shown.lines(summary.lines())
            shown.say("register accepts them" if not summary.errors else "register refuses them")
        return 2 if summary.errors else 0
