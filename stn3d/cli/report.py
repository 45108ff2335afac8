"""The command `report`: pages of registrations that have none, and an index of many."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from stn3d.cli import options, screen
from stn3d.cli.process import slow_imports


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Folders of registrations, or folders above them."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder for index.html. Default: the folder that holds all registrations.",
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Make pages that are there already once more.")
    ] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Make the report of a registration later, and an index of many.

    Writes report.html and report.png beside the metrics.json of each registration, from the images
    whose paths it names. Of several registrations it also writes index.html: a table with
    thumbnails, worst first, histograms of all metrics, filters, and accept, reject and a note for
    each, saved as CSV.
    """
    with screen.opened(f"reporting {_listed(folders)}", quiet, verbose) as shown:
        with slow_imports():
            from stn3d.report.many import report_of

        written, notes = report_of(folders, out, again=again)
        for note in notes:
            shown.say(f"note: {note}")
        shown.wrote(written)


def _listed(folders: Sequence[Path]) -> str:
    return os.fspath(folders[0]) if len(folders) == 1 else f"{len(folders)} folders"
