"""Options of the command `cohort` that no other command has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

PAIRS = "Pairs"
RUNNING = "Running"


def _option(metavar: str, panel: str, help: str, *names: str) -> Any:
    return typer.Option(*names, metavar=metavar, rich_help_panel=panel, help=help)


def _flag(name: str, help: str) -> Any:
    return typer.Option(name, rich_help_panel=RUNNING, help=help)


Source = Annotated[
    Path,
    typer.Argument(
        metavar="PAIRS.csv|BIDS_DIR",
        help="Table with the columns moving, fixed (unless --to is given), and optionally name, "
        "init, and mask, exclude, labels and points of either image (fixed_mask, ...); or a BIDS "
        "folder, whose images are registered to --to.",
    ),
]
To = Annotated[
    str | None,
    _option("TEMPLATE", PAIRS, "Fixed image of all pairs: a file, or a TemplateFlow name."),
]
Suffix = Annotated[str, _option("SUFFIX", PAIRS, "BIDS suffix of the images to register.")]
Participant = Annotated[
    list[str] | None,
    _option("LABEL", PAIRS, "BIDS subject to register; may be repeated. Default: all."),
]
TemplateMask = Annotated[
    Path | None,
    _option(
        "IMAGE", PAIRS, "Binary mask of the template: only these voxels contribute to the metric."
    ),
]
TemplateLabels = Annotated[
    Path | None, _option("IMAGE", PAIRS, "Label map of the template, for Dice and HD95.")
]
Scheduler = Annotated[
    str,
    _option(
        "local|ADDRESS|slurm",
        RUNNING,
        "Where pairs are registered: on this machine, by the workers of a Dask scheduler (its "
        "address or scheduler file), or by Slurm jobs.",
    ),
]
Workers = Annotated[
    int | None,
    _option(
        "N",
        RUNNING,
        "Number of workers, each of which registers one pair at a time. Default: one for each core "
        "as far as the memory allows; 100 Slurm jobs.",
    ),
]
Slurm = Annotated[
    list[str] | None,
    _option(
        "KEY=VALUE",
        RUNNING,
        "Setting of the Slurm jobs, such as queue=long or walltime=04:00:00; may be repeated. "
        "Others come from Dask's configuration files.",
    ),
]
Retries = Annotated[
    int,
    _option(
        "N",
        RUNNING,
        "Repetitions of a pair after its worker was killed or the machine failed.",
    ),
]
Index = Annotated[
    int | None,
    _option(
        "K",
        RUNNING,
        "Register pair K alone, counted from 0, in this process: for array jobs of any scheduler, "
        "of which many may run at once.",
    ),
]
Count = Annotated[bool, _flag("--count", "Print the number of pairs and end.")]
Summary = Annotated[
    bool, _flag("--summary", "Write summary.csv and index.html of what there is, and end.")
]
Verify = Annotated[
    bool,
    _flag("--verify", "Read all files of finished pairs to find out whether they are unchanged."),
]
Rerun = Annotated[
    bool,
    _flag(
        "--rerun",
        "Register pairs again that were registered with other settings or by another version.",
    ),
]
