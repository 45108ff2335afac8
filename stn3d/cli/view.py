"""The command `view`: the page of a registration, or the index of many, in the browser."""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from stn3d.cli import options, screen
from stn3d.errors import InputError


def view(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder of a registration, of many, or of a series."),
    ],
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Open the report of a registration, or the index of many, in the browser.

    Without a browser it prints where the page is.
    """
    page = page_of(folder)
    with screen.opened(f"opening {page}", quiet, verbose) as shown:
        try:
            opened = webbrowser.open(page.absolute().as_uri())
        except webbrowser.Error:
            opened = False
        if not opened:
            shown.say(f"no browser was found; open this file in one: {page.absolute()}")


def page_of(folder: Path) -> Path:
    """The page to look at: an index, else the only report.

    Raises:
        InputError: there is none, or there are several.
    """
    if folder.suffix == ".html" and os.path.isfile(folder):
        return folder
    if not os.path.isdir(folder):
        raise InputError(f"there is no folder {folder}; give the folder of a registration.")
    pages = [folder / "index.html", folder / "report.html"]
    pages += sorted(folder.glob("*_desc-registration_report.html"))
    found = [page for page in pages if page.is_file()]
    if not found:
        raise InputError(f"{folder} holds no report; make it with: stn3d report {folder}.")
    if len(found) > 1 and found[0].name not in ("index.html", "report.html"):
        raise InputError(
            f"{folder} holds {len(found)} reports; give one of them, such as {found[0]}, or make "
            f"an index with: stn3d report {folder}."
        )
    return found[0]
