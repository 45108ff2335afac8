"""Runs of a cohort: all pairs on workers, one pair of an array job, or the summary alone."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from stn3d.cohort.layout import CohortFolder
from stn3d.cohort.needs import local_workers, sampled_need_gb, uses_cuda
from stn3d.cohort.pairs import CohortPair
from stn3d.cohort.record import PairRecord
from stn3d.cohort.request import CohortRequest, open_cohort
from stn3d.cohort.run_pair import PairTask, run_pair
from stn3d.cohort.scheduler import SchedulerChoice, check_scheduler, cluster
from stn3d.cohort.summary import CohortResult, write_summary
from stn3d.cohort.window import InterruptedRunError, Report, Run
from stn3d.errors import InputError

_BUSY_S = 2.0  # until a pair of another run is asked for again
_DEFAULT_JOBS = 100


def register_cohort(
    pairs: Sequence[CohortPair],
    out: str | os.PathLike[str],
    request: CohortRequest | None = None,
    *,
    scheduler: SchedulerChoice | None = None,
    rerun: bool = False,
    verify: bool = False,
    report: Report | None = None,
) -> CohortResult:
    """Register many pairs; pairs that are finished in the folder are not registered again.

    Args:
        pairs: the pairs, see `read_cohort`.
        out: folder for the results.
        request: settings and outputs of all pairs.
        scheduler: where they are registered. Default: on this machine.
        rerun: register pairs again that have other settings or another version of stn3d.
        verify: read all inputs and outputs of finished pairs to find out whether they are whole.
        report: called whenever a pair is finished.

    Returns:
        The records of all pairs; ``summary.csv`` and ``index.html`` are written.

    Raises:
        InputError: the folder or the scheduler cannot be used, or the folder holds a cohort of
            other settings.
    """
    request, choice = request or CohortRequest(), scheduler or SchedulerChoice()
    folder = CohortFolder.at(out)
    check_scheduler(choice)
    open_cohort(folder, request, rerun=rerun)
    run = Run(pairs, request, folder, choice.retries, report, verify)
    run.find_finished()
    interruption = ""
    try:
        _on_workers(run, choice)
    except InterruptedRunError as error:
        interruption = str(error)
    finally:
        result = CohortResult(folder, pairs, run.with_earlier(), interruption)
        write_summary(folder, pairs, result.records)
    return result


def summarise_cohort(
    pairs: Sequence[CohortPair], out: str | os.PathLike[str], request: CohortRequest
) -> CohortResult:
    """Write the summary of what is finished, without registering a pair.

    Raises:
        InputError: see `register_cohort`.
    """
    folder = CohortFolder.at(out)
    open_cohort(folder, request)
    records = Run(pairs, request, folder).with_earlier()
    write_summary(folder, pairs, records)
    return CohortResult(folder, pairs, records)


def _on_workers(run: Run, choice: SchedulerChoice) -> None:
    """Register the open pairs: first those that fit the workers, then larger ones on fewer."""
    settings = run.request.settings
    device = "cuda" if uses_cuda(settings.device) else "cpu"
    while open_pairs := run.open_pairs():
        need_gb = sampled_need_gb(open_pairs, run.request)
        workers = choice.workers
        if choice.name == "slurm":
            workers = workers or min(len(open_pairs), _DEFAULT_JOBS)
            plan = local_workers(need_gb, settings.threads or 1, workers, device)
            plan = dataclasses.replace(plan, memory_gb=need_gb)
        else:
            workers = min(workers or len(open_pairs), len(open_pairs)) if choice.workers else None
            plan = local_workers(need_gb, settings.threads, workers, device)
            if not choice.workers and plan.count > len(open_pairs):
                plan = local_workers(need_gb, settings.threads, len(open_pairs), device)
        limit_gb = plan.memory_gb if choice.name in ("local", "slurm") else None
        run.threads = settings.threads or plan.threads
        with cluster(choice, plan, run.folder) as client:
            run.on(client, open_pairs, limit_gb)
        if not run.too_large:
            return
        run.begin_large()


def run_one(
    pairs: Sequence[CohortPair],
    index: int,
    out: str | os.PathLike[str],
    request: CohortRequest,
    *,
    rerun: bool = False,
    verify: bool = False,
) -> PairRecord:
    """Register one pair of a cohort in this process, for array jobs of any scheduler.

    Args:
        pairs: all pairs.
        index: number of the pair, from 0.
        out: folder of the cohort; many processes may use it at once.
        request: settings and outputs of all pairs.
        rerun: register the pair again if it has other settings or another version of stn3d.
        verify: read the inputs and outputs of a finished pair.

    Returns:
        The pair's record.

    Raises:
        InputError: there is no pair of this number, or see `register_cohort`.
    """
    if not 0 <= index < len(pairs):
        raise InputError(f"there is no pair {index}; the cohort has 0 to {len(pairs) - 1}.")
    folder = CohortFolder.at(out)
    open_cohort(folder, request, rerun=rerun)
    task = PairTask(pairs[index], request, folder.root, verify=verify)
    while (outcome := run_pair(task)).fault == "busy":
        time.sleep(_BUSY_S)
    if outcome.fault == "first_run":
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            outcome = process.submit(run_pair, dataclasses.replace(task, first_runs=9)).result()
    assert outcome.record is not None
    return outcome.record
