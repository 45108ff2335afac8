"""The command `series`: a 4D image goes to `stn3d.register_series`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stn3d import choices
from stn3d.cli import options, progress, screen, summary
from stn3d.cli.process import slow_imports


def series(
    series: Annotated[Path, typer.Argument(metavar="SERIES", help="4D image.")],
    out: options.OutFolder,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="IMAGE", help="External reference image, of any grid."),
    ] = None,
    reference_volume: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Reference volume of SERIES (of --reference, if that is 4D), counted from 0. "
            "Default: the middle one.",
        ),
    ] = None,
    metric: options.SeriesMetric = choices.AUTOMATIC.series,
    interpolation: options.SeriesInterpolation = "linear",
    fill: options.Fill = "auto",
    bvecs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Diffusion gradient directions of SERIES (FSL's bvecs); written rotated with the "
            "volumes, as moved.bvec.",
        ),
    ] = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Rigid motion correction of a 4D series (fMRI, DWI, perfusion).

    Writes moved.nii.gz, a transform for each volume, motion.csv and metrics.json into --out.
    """
    chosen: dict[str, Any] = {"metric": metric, "interpolation": interpolation, "fill": fill}
    with screen.opened(f"registering the volumes of {series.name}", quiet, verbose) as shown:
        with slow_imports():
            from stn3d.io import refuse_inputs
            from stn3d.registration.folders import results_folder
            from stn3d.series.api import register_series
            from stn3d.series.result import BVECS, SeriesRegistration

        outputs = [out / name for name in (*SeriesRegistration.FILES, BVECS)]
        refuse_inputs(outputs, [series, reference, bvecs])
        with results_folder(out) as folder:
            with progress.volumes(shown) as show:
                found = register_series(
                    series,
                    reference,
                    reference_volume=reference_volume,
                    bvecs=bvecs,
                    threads=threads,
                    progress=show,
                    **chosen,
                )
            files = found.save(folder)
        metrics = found.metrics
        summary.show_metrics(shown, before=metrics["before"], after=metrics["after"])
        summary.show_metrics(shown, motion=metrics["motion"])
        shown.wrote(files)
