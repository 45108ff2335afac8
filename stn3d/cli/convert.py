"""The commands `convert`, `compose` and `invert`: transform files in, a transform file out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stn3d.cli import file_options, options, screen
from stn3d.cli.process import slow_imports
from stn3d.cli.screen import Screen

_Out = Annotated[
    str,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="Transform file to write; its extension, or a prefix as in fsl:FILE, is its format.",
    ),
]
_Like = Annotated[
    Path | None,
    typer.Option(
        "--like",
        metavar="FIXED",
        help="Fixed image: the grid of a field, and what some formats need.",
    ),
]
_Moving = Annotated[
    Path | None,
    typer.Option("--moving", metavar="IMAGE", help="Moving image, which some formats need."),
]


def convert(
    transform: file_options.TransformSpec,
    out: _Out,
    like: _Like = None,
    moving: _Moving = None,
    then: file_options.Then = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Convert a transform file to the format of another tool.

    The result maps the same fixed points to the same moving points. A format for a single field
    gets the whole transform, sampled on the grid of --like.
    """
    opening = f"converting {transform} to {out}"
    with screen.opened(opening, quiet, verbose) as shown:
        _write(shown, [transform, *(then or [])], out, (like, moving))


def compose(
    transforms: Annotated[
        list[str],
        typer.Argument(metavar="TRANSFORM...", help="Transforms in the order of a fixed point."),
    ],
    out: _Out,
    like: _Like = None,
    moving: _Moving = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Compose transforms into one file.

    A point of the fixed image goes through the first TRANSFORM, then through the second, and so on:
    for an image that is registered to T1 and T1 to a template, give template-to-T1 first.
    """
    opening = f"composing {len(transforms)} transforms into {out}"
    with screen.opened(opening, quiet, verbose) as shown:
        _write(shown, transforms, out, (like, moving))


def invert(
    transform: file_options.TransformSpec,
    out: _Out,
    like: _Like = None,
    moving: _Moving = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Invert a transform: the result maps points of the moving image to points of the fixed image.

    --like and --moving are the fixed and the moving image of the given TRANSFORM. Where a field
    folds it has no inverse; the largest error is printed.
    """
    with screen.opened(f"inverting {transform} into {out}", quiet, verbose) as shown:
        _write(shown, [transform], out, (like, moving), inverse=True)


def _write(
    shown: Screen,
    specs: list[str],
    out: str,
    images: tuple[Path | None, Path | None],
    *,
    inverse: bool = False,
) -> None:
    """Read transforms, join them, and write the result or its inverse.

    Args:
        shown: screen of the command.
        specs: transforms in the order of a fixed point.
        out: file to write.
        images: fixed and moving image.
        inverse: write the inverse, for which the images change their roles.
    """
    with slow_imports():
        from stn3d.io import (
            check_transform_path,
            read_specs,
            refuse_inputs,
            spec_files,
            split_format,
            write_transform,
        )
        from stn3d.transforms import invert_fields

    fixed, moving = images
    path, format = split_format(out)
    outputs = check_transform_path(path, format)
    refuse_inputs(outputs, [fixed, moving, *(one for spec in specs for one in spec_files(spec))])
    found = read_specs(specs, fixed=fixed, moving=moving)
    if inverse:
        forward, (found, _) = found, invert_fields(found)
        fixed, moving = moving, fixed
        _show_error(shown, forward, found, images[0])
    shown.wrote(write_transform(path, found, fixed=fixed, moving=moving, format=format))


def _show_error(shown: Screen, forward: Any, inverse: Any, fixed: Path | None) -> None:
    """The error of an inverse that was solved for, if there is one."""
    from stn3d.inspection import inversion_error_mm

    error = inversion_error_mm(forward, inverse, fixed)
    if error is not None:
        mean, p95, largest = (error[key] for key in ("mean", "p95", "max"))
        shown.say(
            f"error of the inverse, mm: mean {mean:.3g}, 95th percentile {p95:.3g}, maximum "
            f"{largest:.3g}"
        )
