"""The command `cohort`: many pairs, registered on Dask or one by one by array jobs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from stn3d.cli import cohort_options as given
from stn3d.cli import file_options, options, progress, screen
from stn3d.cli.process import slow_imports
from stn3d.cli.screen import Screen
from stn3d.cli.setting_options import with_settings
from stn3d.errors import InputError

if TYPE_CHECKING:  # these import torch
    from stn3d.cohort import CohortPair, CohortRequest, CohortResult, SchedulerChoice


@with_settings
def cohort(
    source: given.Source,
    out: options.OutFolder,
    to: given.To = None,
    suffix: given.Suffix = "T1w",
    participant: given.Participant = None,
    fixed_mask: given.TemplateMask = None,
    fixed_labels: given.TemplateLabels = None,
    scheduler: given.Scheduler = "local",
    workers: given.Workers = None,
    slurm: given.Slurm = None,
    retries: given.Retries = 2,
    index: given.Index = None,
    count: given.Count = False,
    summary: given.Summary = False,
    verify: given.Verify = False,
    rerun: given.Rerun = False,
    *,
    settings: dict[str, Any],
    image_format: file_options.ImageFormat = ".nii.gz",
    jacobian: file_options.Jacobian = False,
    no_report: file_options.NoReport = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Register many pairs: those of a table, or each image of a BIDS folder to a template.

    Writes a folder for each pair (of a BIDS folder: files with BIDS names), summary.csv and
    index.html into --out. To resume an interrupted cohort, run the same command again. The exit
    code is 3 if a pair failed or could not be registered.
    """
    files = {"image_suffix": image_format, "jacobian": jacobian, "report": not no_report}
    files["bids"] = os.path.isdir(source)
    template = {"to": to, "fixed_mask": fixed_mask, "fixed_labels": fixed_labels}
    how = {"rerun": rerun, "verify": verify}
    with screen.opened(f"registering the pairs of {source.name}", quiet, verbose) as shown:
        _refuse_source(source, out)
        pairs = _pairs(source, template, (suffix, participant or ()), settings["init"])
        if count:
            typer.echo(len(pairs))
            return
        request = _request(settings, files)
        if index is not None:
            failed = _one(pairs, index, (out, request, how), shown)
        else:
            choice = None if summary else _choice(scheduler, workers, slurm or [], retries)
            failed = _all(pairs, choice, (out, request, how), shown)
        if failed:
            raise typer.Exit(3)


def _refuse_source(source: Path, out: Path) -> None:
    """Make sure that results do not go into the BIDS folder itself."""
    if os.path.isdir(source) and os.path.exists(out) and os.path.samefile(out, source):
        raise InputError(
            f"--out is the BIDS folder {source} itself; give {source / 'derivatives' / 'stn3d'}."
        )


def _pairs(
    source: Path,
    template: Mapping[str, Any],
    bids: tuple[str, Sequence[str]],
    init: Sequence[str] | None,
) -> list[CohortPair]:
    """The pairs of a table or folder.

    Args:
        source: the table or folder.
        template: the fixed image of all pairs, as ``to``, and what belongs to it.
        bids: suffix of the images, and labels of the subjects.
        init: initial transform of all pairs.
    """
    with slow_imports():
        from stn3d.cohort import read_cohort, run_one  # noqa: F401, the second imports the rest

    files = {name: str(path) for name, path in template.items() if name != "to" and path}
    if init and len(init) > 1:
        raise InputError("a cohort takes one --init; compose the transforms by stn3d compose.")
    return read_cohort(
        source,
        template=template["to"],
        fixed=files,
        init=init[0] if init else None,
        suffix=bids[0],
        participants=bids[1],
    )


def _request(settings: Mapping[str, Any], files: Mapping[str, Any]) -> CohortRequest:
    """What is asked for all pairs, checked."""
    from stn3d.choices import INITIAL_METHODS
    from stn3d.cohort import CohortRequest

    init = settings["init"]
    method = init[0] if init and init[0] in INITIAL_METHODS else None  # else a file of each pair
    given = {**settings, "init": method}
    return CohortRequest.of(given, given.pop("config"), files)


def _choice(
    scheduler: str, workers: int | None, slurm: Sequence[str], retries: int
) -> SchedulerChoice:
    from stn3d.cohort import SchedulerChoice

    if workers is not None and workers < 1:
        raise InputError(f"--workers is {workers}; give at least 1.")
    if slurm and scheduler != "slurm":
        raise InputError("--slurm sets options of Slurm jobs; give --scheduler slurm too.")
    parts = [setting.partition("=") for setting in slurm]
    for key, mark, value in parts:
        if not (key and mark and value):
            raise InputError(f"--slurm {key} has no value; write KEY=VALUE, such as queue=long.")
    chosen = {key: value for key, _, value in parts}
    return SchedulerChoice(scheduler, workers, chosen, max(0, retries))


_Where = tuple[Path, "CohortRequest", Mapping[str, bool]]
"""The folder of the cohort, what is asked for, and how finished pairs are treated."""


def _one(pairs: Sequence[CohortPair], index: int, where: _Where, shown: Screen) -> bool:
    """Register one pair; whether it failed."""
    from stn3d.cohort import run_one

    out, request, how = where
    record = run_one(pairs, index, out, request, **how)
    shown.doing(f"pair {index} of {len(pairs)}, {record.name}")
    shown.status(record.status, record.reason)
    return record.has_failed


def _all(
    pairs: Sequence[CohortPair], choice: SchedulerChoice | None, where: _Where, shown: Screen
) -> bool:
    """Register all pairs, or only write the summary; whether one failed."""
    from stn3d.cohort import register_cohort, summarise_cohort

    out, request, how = where
    if choice is None:
        result = summarise_cohort(pairs, out, request)
    else:
        missing = [(pair.name, files) for pair in pairs if (files := pair.missing())]
        _report_missing(missing, len(pairs), shown)
        with progress.cohort(shown, len(pairs)) as report:
            result = register_cohort(pairs, out, request, scheduler=choice, report=report, **how)
    _show(result, shown)
    return result.has_failed


def _report_missing(
    missing: Sequence[tuple[str, Sequence[str]]], total: int, shown: Screen
) -> None:
    """Note the pairs with missing files, which will fail; the others are registered.

    Raises:
        InputError: all pairs have missing files.
    """
    for name, files in missing[:5]:
        shown.doing(f"note: {name}: there is no {files[0]}")
    if len(missing) > 5:
        shown.doing(f"note: {len(missing)} pairs have missing files")
    if len(missing) == total:
        raise InputError(
            f"no pair has all its files; {missing[0][0]}: there is no {missing[0][1][0]}; paths "
            "are relative to the folder of the table."
        )


def _show(result: CohortResult, shown: Screen) -> None:
    """The pairs that failed, how many there are of each status, and the files."""
    counts = result.counts()
    for line in result.failures(10):
        shown.doing(line)
    shown.table(("status", "pairs"), [(name, n) for name, n in counts.items() if n])
    if result.interruption:
        screen.error(result.interruption)
    shown.wrote([result.folder.summary, *result.pages])
