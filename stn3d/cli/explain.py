"""The command `explain`: a transform, an image or a metrics.json in plain words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from stn3d.cli import options, screen
from stn3d.cli.process import slow_imports
from stn3d.errors import InputError


def explain(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Transform, image, metrics.json, or the folder of a registration.",
        ),
    ],
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="FIXED", help="Fixed image of a transform: displacements over this image."
        ),
    ] = None,
    moving: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="Moving image of a transform: overlap.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not sentences.")] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Explain a file in plain words.

    Of a transform: its format, its direction and frame, rotation, translation, scales, largest
    displacement and folding. Of an image: its geometry, its intensities and what is unusual about
    them. Of a metrics.json: what each value means.
    """
    with screen.opened(f"explaining {file}", quiet, verbose) as shown:
        with slow_imports():
            from stn3d.io import is_image_path

        if Path(file).is_dir() and (Path(file) / "metrics.json").is_file():
            lines, content = _metrics(Path(file) / "metrics.json")
            below, whole = _transform(str(file), like, moving)
            lines, content = [*lines, "", *below], {"metrics": content, "transform": whole}
        elif file.lower().endswith(".json") and not file.lower().endswith(".mrk.json"):
            lines, content = _metrics(Path(file))
        elif ":" not in file and is_image_path(file):
            lines, content = _image(Path(file))
        else:
            lines, content = _transform(file, like, moving)
        if as_json:
            typer.echo(json.dumps(content, indent=2))
            return
        shown.lines(lines)


def _transform(
    spec: str, like: Path | None, moving: Path | None
) -> tuple[Sequence[str], dict[str, Any]]:
    from stn3d.inspection import summarise_transform
    from stn3d.io import describe_transform_file, grid_of_reference, read_specs

    found = read_specs([spec], fixed=like, moving=moving)
    grids = [
        None if path is None else grid_of_reference(path, role)
        for path, role in ((like, "fixed"), (moving, "moving"))
    ]
    for grid, path in zip(grids, (like, moving), strict=True):
        if grid is not None and grid.ndim != found.ndim:
            raise InputError(
                f"the transform {spec} is {found.ndim}D and {path} is {grid.ndim}D; give images of "
                "the transform's dimension."
            )
    summary = summarise_transform(found, *grids)
    about = describe_transform_file(spec)
    lines = [
        f"{spec}: {about}, {found.ndim}D",
        "direction: maps points of the fixed image to points of the moving image; the image moves "
        "the other way, from moving to fixed",
        "coordinates below: world RAS+ mm",
        *summary.lines(),
    ]
    return lines, {"file": spec, "format": about, **summary.as_dict()}


def _image(path: Path) -> tuple[Sequence[str], dict[str, Any]]:
    from stn3d.inspection import summarise_image

    summary = summarise_image(path)
    return [f"{path}: image", *summary.lines()], summary.as_dict()


def _metrics(path: Path) -> tuple[Sequence[str], dict[str, Any]]:
    from stn3d.inspection import explain_metrics
    from stn3d.io import read_json

    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no metrics; give the metrics.json of a registration.")
    return explain_metrics(content), content
