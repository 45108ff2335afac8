"""The command `series`: a 4D image goes to `stn3d.register_series`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from stn3d.cli import options, screen
from stn3d.losses.similarity import AUTOMATIC, MetricName
from stn3d.registration.result import results_folder
from stn3d.series.result import SeriesInterpolation


def series(
    series: Annotated[Path, typer.Argument(metavar="SERIES", help="A 4D image.")],
    out: options.OutFolder,
    reference: Annotated[
        Path | None, typer.Option(help="An image of any grid to bring the volumes onto.")
    ] = None,
    reference_volume: Annotated[
        int | None,
        typer.Option(
            help="A volume of SERIES (of --reference, if that is 4D) instead, from 0; the middle "
            "one if neither is given."
        ),
    ] = None,
    metric: Annotated[
        str, typer.Option(help=options.one_of(get_args(MetricName), AUTOMATIC.series))
    ] = AUTOMATIC.series,
    interpolation: Annotated[
        str, typer.Option(help=options.one_of(get_args(SeriesInterpolation), "linear"))
    ] = "linear",
    threads: options.Threads = None,
) -> None:
    """Bring every volume of a 4D image rigidly onto a reference: motion in fMRI, DWI, perfusion.

    Writes moved.nii.gz, a transform for each volume, motion.csv and metrics.json into --out.
    """
    from stn3d.series.api import register_series

    begin = time.perf_counter()
    chosen: dict[str, Any] = {"metric": metric, "interpolation": interpolation}
    with results_folder(out) as folder:
        with screen.volumes() as progress:
            found = register_series(
                series,
                reference,
                reference_volume=reference_volume,
                threads=threads,
                progress=progress,
                **chosen,
            )
        files = found.save(folder)
    figures = found.metrics
    screen.show_figures(before=figures["before"], after=figures["after"])
    screen.show_figures(motion=figures["motion"])
    screen.show_end(files, time.perf_counter() - begin)
