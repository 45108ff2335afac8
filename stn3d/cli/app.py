"""The program `stn3d`: its commands, its exit codes and its errors."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NoReturn

import typer

from stn3d import __version__
from stn3d.cli import process, screen
from stn3d.cli.apply import apply
from stn3d.cli.check import check
from stn3d.cli.cohort import cohort
from stn3d.cli.convert import compose, convert, invert
from stn3d.cli.demo import demo
from stn3d.cli.evaluate import evaluate
from stn3d.cli.explain import explain
from stn3d.cli.jacobian import jacobian
from stn3d.cli.landmarks import landmarks
from stn3d.cli.points import points
from stn3d.cli.register import register
from stn3d.cli.report import report
from stn3d.cli.segment import segment
from stn3d.cli.series import series
from stn3d.cli.template import template
from stn3d.cli.training import train
from stn3d.cli.view import view
from stn3d.errors import InputError

app = typer.Typer(
    help="Register 2D and 3D medical images: rigid, affine and deformable.",
    epilog="stn3d COMMAND --help explains a command. Start with: stn3d register --help",
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

# click's UsageError in a public way: releases of typer keep click in different places.
_UsageError: Any = typer.BadParameter.__base__

_EXAMPLES = {
    "register": (
        "stn3d register fixed.nii.gz moving.nii.gz --out result",
        "stn3d register mr.nii.gz ct.nii.gz --out result --kind rigid",
        "stn3d register fixed.nii.gz moving.nii.gz --out result \\\n"
        "    --fixed-labels fixed_labels.nii.gz --moving-labels moving_labels.nii.gz",
    ),
    "cohort": (
        "stn3d cohort pairs.csv --out results",
        "stn3d cohort bids --to MNI152NLin2009cAsym --out derivatives/stn3d",
        "stn3d cohort pairs.csv --out results --index $SLURM_ARRAY_TASK_ID",
    ),
    "series": (
        "stn3d series bold.nii.gz --out result",
        "stn3d series bold.nii.gz --out result --like template.nii.gz \\\n"
        "    --then template_to_t1.h5 --then t1_to_bold.h5",
    ),
    "template": (
        "stn3d template sub-*/anat/*_T1w.nii.gz --out template",
        "stn3d template visit1.nii.gz visit2.nii.gz --within-subject --jacobian --out halfway",
    ),
    "segment": (
        "stn3d segment head.nii.gz --out result",
        "stn3d segment sub-*/anat/*_T1w.nii.gz --out segmentations",
    ),
    "landmarks": (
        "stn3d landmarks fixed.csv moving.csv --out result",
        "stn3d landmarks fixed.csv moving.csv --kind tps --like fixed.nii.gz --out result",
    ),
    "apply": (
        "stn3d apply result/transform.h5 moving_labels.nii.gz \\\n"
        "    --like fixed.nii.gz --out moved_labels.nii.gz",
        "stn3d apply result/inverse.h5 fixed.nii.gz --like moving.nii.gz --out back.nii.gz",
    ),
    "points": (
        "stn3d points result fixed_points.csv --out moving_points.csv",
        "stn3d points result moving_tracts.trk --from moving --out tracts.trk",
    ),
    "evaluate": (
        "stn3d evaluate --fixed fixed.nii.gz --moving moving.nii.gz \\\n"
        "    --transform result/transform.h5 \\\n"
        "    --fixed-labels fixed_labels.nii.gz --moving-labels moving_labels.nii.gz",
        "stn3d evaluate --fixed fixed.nii.gz --moving moving.nii.gz --json",
        "stn3d evaluate --pairs pairs.csv --out comparison.json --csv labels.csv",
    ),
    "convert": (
        "stn3d convert result/transform.h5 --out result/warp.nii.gz --like fixed.nii.gz",
        "stn3d convert result/transform.h5 --out fsl:result/warp.nii.gz \\\n"
        "    --like fixed.nii.gz --moving moving.nii.gz",
        "stn3d convert fsl:flirt.mat --out affine.tfm --like fixed.nii.gz --moving moving.nii.gz",
    ),
    "compose": ("stn3d compose template_to_t1.h5 t1_to_bold.tfm --out template_to_bold.h5",),
    "invert": ("stn3d invert result/transform.h5 --out moving_to_fixed.h5",),
    "jacobian": ("stn3d jacobian result/transform.h5 --like fixed.nii.gz --out jacobian.nii.gz",),
    "explain": (
        "stn3d explain result",
        "stn3d explain result/transform.h5 --like fixed.nii.gz --moving moving.nii.gz",
        "stn3d explain image.nii.gz",
        "stn3d explain segmentation/volumes.json",
    ),
    "view": ("stn3d view result",),
    "report": ("stn3d report result", "stn3d report results/*  (an index of all)"),
    "check": ("stn3d check fixed.nii.gz moving.nii.gz",),
    "train": (
        "stn3d train configs/train.yaml output_dir=run epochs=10",
        "stn3d train configs/train.yaml output_dir=run epochs=20  (resumes)",
    ),
    "demo": ("stn3d demo",),
}
_PANELS: dict[str, tuple[Callable[..., object], ...]] = {
    "Registration": (register, cohort, series, template, landmarks),
    "Segmentation": (segment,),
    "Using transforms": (apply, points, evaluate, convert, compose, invert, jacobian),
    "Looking at results": (view, report, explain, check),
    "Networks": (train,),
    "Demo": (demo,),
}


def _add(command: Callable[..., object], panel: str) -> None:
    """A command of the program, with its docstring as help and its examples below."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    app.command(
        help="\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs),
        epilog="\n".join(["Examples:", *(f"$ {line}" for line in _EXAMPLES[command.__name__])]),
        rich_help_panel=panel,
    )(command)


for _panel, _commands in _PANELS.items():
    for _command in _commands:
        _add(_command, _panel)


def console_script() -> NoReturn:
    """`main` in a process of its own, which ends without a quarter of a second of teardown."""
    process.begin(at_start_of_process=True)
    code = _run(None)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: what follows the program's name; by default the process's own arguments.

    Returns:
        The exit code: 0, 2 for bad input, 3 for a registration or segmentation that failed, 130
        when interrupted.
    """
    process.begin()
    return _run(args)


def _run(args: Sequence[str] | None) -> int:
    try:
        code = app(args, prog_name="stn3d", standalone_mode=False)
    except InputError as error:
        screen.error(str(error))
        return 2
    except _UsageError as error:
        screen.error(_usage(error))
        return 2
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    if code == 130:
        screen.error("interrupted.")
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
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
