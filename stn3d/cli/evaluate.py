"""The command `evaluate`: metrics of a transform on a pair."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from stn3d.cli import options, screen, summary
from stn3d.cli.process import slow_imports
from stn3d.cli.screen import Screen


def evaluate(
    fixed: Annotated[Path, typer.Option(metavar="IMAGE", help="Fixed image.")],
    moving: Annotated[Path, typer.Option(metavar="IMAGE", help="Moving image.")],
    transform: Annotated[
        str | None,
        typer.Option(
            metavar="TRANSFORM", help="Transform, fixed points to moving points. Default: identity."
        ),
    ] = None,
    inverse: Annotated[
        str | None,
        typer.Option(
            metavar="TRANSFORM", help="Inverse transform, to report the inverse-consistency error."
        ),
    ] = None,
    true_transform: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Ground-truth transform, fixed points to moving points."),
    ] = None,
    fixed_mask: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGE",
            help="Binary mask of the fixed image: the region that is evaluated. "
            "Default: the labels, else the foreground.",
        ),
    ] = None,
    fixed_labels: options.FixedLabels = None,
    moving_labels: options.MovingLabels = None,
    fixed_points: options.EvaluatedFixedPoints = None,
    moving_points: options.EvaluatedMovingPoints = None,
    fixed_volume: options.FixedVolume = None,
    moving_volume: options.MovingVolume = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="JSON file for the metrics; - for stdout."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the metrics as JSON, not as a table.")
    ] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure how well a transform aligns a pair: labels, landmarks, images, folding."""
    with screen.opened(f"evaluating {moving.name} against {fixed.name}", quiet, verbose) as shown:
        with slow_imports():
            from stn3d.cli.scoring import EvaluationFiles, evaluate_files
            from stn3d.io import check_output, refuse_inputs

        files = EvaluationFiles(
            (fixed, moving),
            (fixed_volume, moving_volume),
            (fixed_labels, moving_labels),
            (fixed_points, moving_points),
            fixed_mask,
            transform,
            inverse,
            true_transform,
        )
        if out is not None:
            check_output(out)
            refuse_inputs([out], dataclasses.astuple(files))
        _report(evaluate_files(files), out, as_json, shown)


def _report(metrics: dict[str, Any], out: Path | None, as_json: bool, shown: Screen) -> None:
    """Write and print the metrics."""
    from stn3d.io import atomic_write, is_stdout

    text = json.dumps(metrics, indent=2)
    if out is not None:
        with atomic_write(out) as part:
            part.write_text(text + "\n", encoding="utf8")
        if is_stdout(out):
            shown, as_json = shown.beside(True), False
    if as_json:
        typer.echo(text)
        return
    summary.show_metrics(shown, value=metrics)
    shown.wrote([out] if out is not None else [])
