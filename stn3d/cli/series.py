"""The command `series`: a 4D image goes to `stn3d.register_series`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stn3d import choices
from stn3d.cli import options, progress, screen, summary
from stn3d.cli.process import slow_imports
from stn3d.errors import InputError

_SPACE = "Space of the moved volumes"
_Metric = Annotated[
    str,
    options.choice(
        "metric",
        None,
        choices.MetricName,
        options.described(
            "Similarity metric of the volumes", choices.METRICS, choices.AUTOMATIC.series
        ),
    ),
]
_Interpolation = Annotated[
    str,
    options.choice(
        "interpolation",
        None,
        choices.SeriesInterpolation,
        options.described(
            "Interpolation of the moved volumes", choices.SERIES_INTERPOLATIONS, "linear"
        ),
    ),
]
_Bvecs = Annotated[
    Path | None,
    typer.Option(
        "--bvecs",
        metavar="FILE",
        help="Diffusion gradient directions of SERIES (FSL's bvecs); written rotated with the "
        "volumes, as moved.bvec.",
    ),
]
_Then = Annotated[
    list[str] | None,
    typer.Option(
        "--then",
        metavar="TRANSFORM",
        rich_help_panel=_SPACE,
        help="Transform from --like to the reference, composed with the motion of each volume: "
        "a file of any format, FORMAT:FILE, inverse:FILE or the folder of a registration. "
        "Repeated, in the order of a point of --like: template to T1, then T1 to reference.",
    ),
]
_Like = Annotated[
    Path | None,
    typer.Option(
        "--like",
        metavar="IMAGE",
        rich_help_panel=_SPACE,
        help="Target image that defines the grid of moved.nii.gz. Default: the reference.",
    ),
]


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
    metric: _Metric = choices.AUTOMATIC.series,
    interpolation: _Interpolation = "linear",
    fill: options.Fill = "auto",
    bvecs: _Bvecs = None,
    then: _Then = None,
    like: _Like = None,
    no_report: Annotated[
        bool,
        typer.Option("--no-report", help="Leave out report.html and motion.svg, its plot."),
    ] = False,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Rigid motion correction of a 4D series (fMRI, DWI, perfusion).

    Writes moved.nii.gz, a transform for each volume, motion.csv, metrics.json and a report with a
    plot of the motion (stn3d view) into --out.

    With --then and --like, the volumes are resampled in another space, such as that of a template.
    Motion correction and normalisation are composed, so that each volume is interpolated once.
    """
    if then and like is None:
        raise InputError("--then needs --like IMAGE, which defines the grid of the moved volumes.")
    chosen: dict[str, Any] = {"metric": metric, "interpolation": interpolation, "fill": fill}
    with screen.opened(f"registering the volumes of {series.name}", quiet, verbose) as shown:
        with slow_imports():
            from stn3d.io import refuse_inputs, spec_files
            from stn3d.registration.folders import results_folder
            from stn3d.series.api import register_series
            from stn3d.series.result import BVECS, SeriesRegistration
            from stn3d.series.target import Normalisation

        outputs = [
            out / name for name in (*SeriesRegistration.FILES, *SeriesRegistration.REPORT, BVECS)
        ]
        refuse_inputs(outputs, [series, reference, bvecs, like])
        refuse_inputs(outputs, [file for spec in then or () for file in spec_files(spec)])
        normalisation = None if like is None else Normalisation(like, tuple(then or ()))
        with results_folder(out) as folder:
            with progress.volumes(shown) as show:
                found = register_series(
                    series,
                    reference,
                    reference_volume=reference_volume,
                    bvecs=bvecs,
                    normalisation=normalisation,
                    threads=threads,
                    progress=show,
                    **chosen,
                )
            files = found.save(folder, report=not no_report)
        metrics = found.metrics
        summary.show_metrics(shown, before=metrics["before"], after=metrics["after"])
        summary.show_metrics(shown, motion=metrics["motion"])
        shown.wrote(files)
