"""The commands. Nothing is decided here: options go to the functions of the package."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_args

import typer

from stn3d import __version__
from stn3d.apply import Interpolations
from stn3d.cli import options, screen
from stn3d.cli.landmarks import landmarks
from stn3d.cli.scoring import Scored, score
from stn3d.cli.series import series
from stn3d.cli.training import train
from stn3d.errors import InputError
from stn3d.io import (
    GeometryWarning,
    check_image_path,
    check_output,
    read_points,
    read_transform,
    whole,
    write_points,
)
from stn3d.registration.memory import MemoryWarning
from stn3d.registration.result import results_folder
from stn3d.registration.settings import INITIAL_METHODS, Settings, check_choice

app = typer.Typer(
    help="Register 2D and 3D medical images: rigid, affine and deformable.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

# click's UsageError by a public way: releases of typer keep click in different places.
_UsageError: Any = typer.BadParameter.__base__


def console_script() -> NoReturn:
    """`main` with a process of its own, of which the end takes no quarter of a second.

    What the imports made lasts: the garbage collector need not look through it again and again, nor
    the interpreter take it apart at the end.
    """
    gc.freeze()
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: what follows the program's name; by default the process's own arguments.

    Returns:
        The exit code: 0, 2 for bad input, 3 for a registration that failed, 130 when interrupted.
    """
    with screen.notes(GeometryWarning, MemoryWarning):
        try:
            code = app(args, prog_name="stn3d", standalone_mode=False)
        except InputError as error:
            screen.complain(str(error))
            return 2
        except _UsageError as error:
            screen.complain(_usage(error))
            return 2
        except (KeyboardInterrupt, typer.Abort):
            code = 130
    if code == 130:
        screen.complain("interrupted.")
    return code if isinstance(code, int) else 0


def _usage(error: Any) -> str:
    """What is wrong with the arguments, and where they are explained."""
    message = error.format_message().strip().rstrip(".")
    command = error.ctx.command_path if error.ctx is not None else "stn3d"
    message = message[:1].lower() + message[1:]
    return f"{message}{' See' if message.endswith('?') else '; see'} {command} --help."


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stn3d {__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def register(
    fixed: Annotated[Path, typer.Argument(metavar="FIXED", help="The image that stays.")],
    moving: Annotated[Path, typer.Argument(metavar="MOVING", help="The image that is moved.")],
    out: options.OutFolder,
    kind: options.OfKind = None,
    metric: options.OfMetric = None,
    preset: options.OfPreset = None,
    fixed_mask: options.FixedMask = None,
    moving_mask: Annotated[
        Path | None, typer.Option(help="Voxels of the moving image that count.")
    ] = None,
    fixed_exclude: options.FixedExclude = None,
    moving_exclude: options.MovingExclude = None,
    fixed_window: options.FixedWindow = None,
    moving_window: options.MovingWindow = None,
    fixed_channel: options.FixedChannels = None,
    moving_channel: options.MovingChannels = None,
    channel_weight: options.ChannelWeights = None,
    fixed_labels: options.FixedLabels = None,
    moving_labels: options.MovingLabels = None,
    label_weight: Annotated[
        float | None,
        typer.Option(help="How much the labels also steer, beside the images' 1; 0 by default."),
    ] = None,
    fixed_points: Annotated[
        Path | None, typer.Option(help="Landmarks of FIXED that steer: CSV, .mrk.json or .fcsv.")
    ] = None,
    moving_points: Annotated[
        Path | None, typer.Option(help="The same landmarks of MOVING.")
    ] = None,
    landmark_weight: Annotated[
        float | None, typer.Option(help="How much they steer, by default 1; 0 only measures them.")
    ] = None,
    fixed_volume: options.FixedVolume = None,
    moving_volume: options.MovingVolume = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD|FILE",
            help=options.one_of((*INITIAL_METHODS, "a transform file"), Settings.init),
        ),
    ] = None,
    estimator: options.OfEstimator = None,
    device: options.OfDevice = None,
    threads: options.Threads = None,
    max_memory: options.MaxMemory = None,
    seed: Annotated[int | None, typer.Option(help="For whatever is drawn; 0 by default.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of these and finer settings.")
    ] = None,
) -> None:
    """Find the transform that brings MOVING onto FIXED.

    Writes the moved image, the transform, its inverse and metrics.json into the folder --out, and
    says whether the outcome is good, to be checked, or failed (then the exit code is 3).
    """
    from stn3d.registration.api import register as run
    from stn3d.registration.inputs import RegistrationImage

    begin = time.perf_counter()
    chosen: dict[str, Any] = {
        "kind": kind,
        "metric": metric,
        "preset": preset,
        "init": init,
        "estimator": estimator,
        "device": device,
        "threads": threads,
        "max_memory": max_memory,
        "seed": seed,
        "config": config,
        "channel_weights": channel_weight,
        "label_weight": label_weight,
        "landmark_weight": landmark_weight,
    }
    fixed_side = RegistrationImage(
        fixed,
        mask=fixed_mask,
        exclude=fixed_exclude,
        channels=fixed_channel or (),
        labels=fixed_labels,
        landmarks=fixed_points,
        window=fixed_window,
        volume=fixed_volume,
    )
    moving_side = RegistrationImage(
        moving,
        mask=moving_mask,
        exclude=moving_exclude,
        channels=moving_channel or (),
        labels=moving_labels,
        landmarks=moving_points,
        window=moving_window,
        volume=moving_volume,
    )
    with results_folder(out) as folder:
        with screen.progress() as progress:
            registration = run(fixed_side, moving_side, **chosen, progress=progress)
        files = registration.save(folder)
    figures = registration.metrics
    screen.show_figures(before=figures["before"], after=figures["after"])
    screen.show_decisions(figures)
    screen.show_end(files, time.perf_counter() - begin)
    if figures["quality"]["status"] == "failed":
        raise typer.Exit(3)


@app.command()
def apply(
    transform: options.TransformFile,
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="An image or label map of the moving side.")
    ],
    like: Annotated[Path, typer.Option(help="The fixed image: gives the grid.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The image to write.")],
    interpolation: Annotated[
        str, typer.Option(help=options.one_of(get_args(Interpolations), "auto"))
    ] = "auto",
    volume: Annotated[
        int | None, typer.Option(help="Only this volume of a 4D IMAGE, from 0.")
    ] = None,
) -> None:
    """Bring another image of the moving side, or its labels, onto the fixed image's grid.

    Of a 4D IMAGE all volumes are brought there, one after another.
    """
    from stn3d.apply import apply_to_file

    check_image_path(out)
    check_choice("interpolation", interpolation, Interpolations)
    how: Any = interpolation
    used = apply_to_file(read_transform(transform), image, like, out, how, volume)
    if interpolation == "auto":
        reason = "holds labels" if used == "label" else "does not look like labels"
        typer.echo(f"interpolation: {used}, since {image} {reason}")
    typer.echo(f"wrote {out}")


@app.command()
def points(
    transform: options.TransformFile,
    table: Annotated[
        Path, typer.Argument(metavar="IN.csv", help="Points: columns x,y,z (x,y in 2D), RAS+ mm.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The CSV file to write.")],
) -> None:
    """Bring points of the fixed image to the moving image (by inverse.h5 the other way)."""
    check_output(out)
    found = read_transform(transform)
    points_mm, others = read_points(table)
    if points_mm.shape[1] != found.ndim:
        raise InputError(
            f"{table} holds {points_mm.shape[1]}D points and {transform} is {found.ndim}D; "
            "give points of the transform's dimension."
        )
    write_points(out, found(points_mm), others)
    typer.echo(f"wrote {out} ({len(points_mm)} points)")


@app.command()
def evaluate(
    fixed: Annotated[Path, typer.Option(help="The fixed image.")],
    moving: Annotated[Path, typer.Option(help="The moving image.")],
    transform: Annotated[
        Path | None, typer.Option(help="Fixed points to moving points; identity by default.")
    ] = None,
    inverse: Annotated[
        Path | None, typer.Option(help="Its inverse: how well does it lead back?")
    ] = None,
    fixed_labels: options.FixedLabels = None,
    moving_labels: options.MovingLabels = None,
    fixed_points: Annotated[
        Path | None, typer.Option(help="CSV of landmarks in the fixed image, RAS+ mm.")
    ] = None,
    moving_points: Annotated[
        Path | None, typer.Option(help="CSV of the same landmarks in the moving image.")
    ] = None,
    fixed_mask: options.FixedMask = None,
    fixed_volume: options.FixedVolume = None,
    moving_volume: options.MovingVolume = None,
    true_transform: Annotated[
        Path | None, typer.Option(help="The known truth, fixed points to moving points.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="JSON file for the figures.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and no table.")] = False,
) -> None:
    """Measure how well a transform aligns a pair: labels, points, images, folding."""
    if out is not None:
        check_output(out)
    files = Scored(
        (fixed, moving),
        (fixed_volume, moving_volume),
        (fixed_labels, moving_labels),
        (fixed_points, moving_points),
        fixed_mask,
        transform,
        inverse,
        true_transform,
    )
    figures = score(files)
    text = json.dumps(figures, indent=2)
    if out is not None:
        with whole(out) as part:
            part.write_text(text + "\n", encoding="utf8")
    if as_json:
        typer.echo(text)
    else:
        screen.show_figures(value=figures)
        screen.show_end([out] if out is not None else [])


@app.command()
def demo(
    out: options.OutFolder = Path("stn3d-demo"),
    threads: options.Threads = None,
) -> None:
    """Register two real heads that installed packages carry, and draw a picture of it."""
    from stn3d.demo import run

    with results_folder(out) as folder, screen.progress() as progress:
        told = run(folder, threads, progress)
    typer.echo(f"{told['title']}\n\n{told['sentence']}")
    screen.show_table(told["columns"], told["rows"])
    for note in told["notes"]:
        typer.echo(note)
    screen.show_end(told["files"], told["total_seconds"])


app.command()(series)
app.command()(landmarks)
app.command()(train)
