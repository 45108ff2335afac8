"""Dask clusters: workers of this machine, of a running scheduler, or of Slurm jobs."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stn3d.choices import check_known
from stn3d.cohort.layout import CohortFolder
from stn3d.cohort.needs import WorkerPlan
from stn3d.errors import InputError, shown_text

if TYPE_CHECKING:
    from distributed import Client

CONNECT_S = 10
"""How long a scheduler may take to answer."""
MEMORY = "memory_gb"
"""Name of the resource that workers declare and pairs ask for."""

_ENVIRONMENT = {
    "GOMP_SPINCOUNT": "3000",
    "THP_MEM_ALLOC_ENABLE": "1",
}  # of `stn3d.startup`, before torch is imported
_ONE_TASK = ("--nthreads", "1", "--memory-limit", "0")  # Slurm itself limits the memory
_NANNY_GB = 0.25  # the process that restarts a worker
_SETTINGS = {
    "distributed.worker.memory.target": False,  # images are not dask's to spill
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.worker.daemon": True,
    "distributed.admin.tick.limit": "1h",  # imports of torch hold the GIL for seconds
    "distributed.admin.low-level-log-length": 0,
}


SLURM_SETTINGS = (
    "queue", "account", "walltime", "job_name", "job_cpu", "job_mem", "interface",
    "local_directory", "job_extra_directives",
)  # fmt: skip
"""Arguments of ``dask_jobqueue.SLURMCluster`` that a user may set."""


@dataclass(frozen=True)
class SchedulerChoice:
    """Where pairs are registered.

    Args:
        name: ``local``, ``slurm``, or the address of a Dask scheduler, such as
            ``tcp://host:8786``, or the path of its scheduler file.
        workers: number of workers; None for what fits into this machine, or 1 Slurm job for each
            pair up to 100.
        slurm: settings of the jobs by a name of `SLURM_SETTINGS`; others come from Dask's
            configuration files.
        retries: how often a pair is tried again after its worker died or the machine failed.

    Raises:
        InputError: a setting of Slurm is unknown.
    """

    name: str = "local"
    workers: int | None = None
    slurm: Mapping[str, str] = field(default_factory=dict)
    retries: int = 2

    def __post_init__(self) -> None:
        for key in self.slurm:
            check_known("setting of Slurm (--slurm)", key, SLURM_SETTINGS)


def check_scheduler(choice: SchedulerChoice) -> None:
    """Check, before any work, that pairs can be registered there.

    Raises:
        InputError: see `cluster`.
    """
    _dask("dask")
    if choice.name == "slurm":
        _dask("dask_jobqueue")
    distributed = _dask("distributed")
    if choice.name not in ("local", "slurm"):
        with _connected(distributed, choice.name):
            pass


@contextmanager
def cluster(choice: SchedulerChoice, plan: WorkerPlan, folder: CohortFolder) -> Iterator[Client]:
    """A client of the scheduler, with workers that are starting.

    Raises:
        InputError: Dask is not installed, or there is no scheduler at the address.
    """
    dask, distributed = _dask("dask"), _dask("distributed")
    settings = {**_SETTINGS, "distributed.scheduler.allowed-failures": choice.retries}
    with dask.config.set(settings):
        if choice.name == "local":
            made = _local(distributed, plan)
        elif choice.name == "slurm":
            made = _slurm(distributed, choice, plan, folder)
        else:
            with _connected(distributed, choice.name) as client:
                yield client
            return
        with made as own, distributed.Client(own) as client:
            yield client


def _dask(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        extra = "slurm" if name == "dask_jobqueue" else "cohort"
        raise InputError(
            f"a cohort needs {name.replace('_', '-')}; install it with pip install "
            f"'stn3d[{extra}]'."
        ) from None


def _environment(threads: int) -> dict[str, str]:
    """Variables of a worker's process, which libraries read when they are imported."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    own = {name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()}
    return {**dict.fromkeys(names, str(threads)), **own}


def _local(distributed: Any, plan: WorkerPlan) -> Any:
    """Workers of this machine. Connections are encrypted: other users could run code otherwise."""
    return distributed.LocalCluster(
        n_workers=plan.count,
        threads_per_worker=1,
        memory_limit=0,
        resources={MEMORY: plan.memory_gb},
        env=_environment(plan.threads),
        security=distributed.Security.temporary(),
        dashboard_address="127.0.0.1:0",
        silence_logs=60,  # their deaths are reported as those of pairs
    )


def _slurm(
    distributed: Any, choice: SchedulerChoice, plan: WorkerPlan, folder: CohortFolder
) -> Any:
    """Slurm jobs of one worker each."""
    jobqueue = _dask("dask_jobqueue")
    exports = [f"export {name}={value}" for name, value in _environment(plan.threads).items()]
    private = folder.root / ".cohort"
    own = _dask("dask").config.get("jobqueue.slurm.job-script-prologue", None) or []
    settings: dict[str, Any] = dict(choice.slurm)
    if "job_extra_directives" in settings:
        settings["job_extra_directives"] = [settings["job_extra_directives"]]
    made = jobqueue.SLURMCluster(
        cores=plan.threads,
        processes=1,
        memory=f"{plan.memory_gb + _NANNY_GB:.2f} GiB",
        python=sys.executable,
        job_script_prologue=[*own, *exports],
        worker_extra_args=[*_ONE_TASK, "--resources", f"{MEMORY}={plan.memory_gb:.2f}"],
        security=distributed.Security.temporary(),
        shared_temp_directory=str(private),
        log_directory=str(private / "slurm"),
        **settings,
    )
    made.scale(jobs=plan.count)
    return made


@contextmanager
def _connected(distributed: Any, address: str) -> Iterator[Client]:
    """A client of a running scheduler, whose workers run one pair at a time.

    Raises:
        InputError: there is none, or a worker runs several tasks at once.
    """
    where = {"scheduler_file": address} if os.path.isfile(address) else {"address": address}
    try:
        client = distributed.Client(**where, timeout=CONNECT_S)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            f"there is no Dask scheduler at {shown_text(address)} ({error}); start one with "
            "dask scheduler, or give --scheduler local."
        ) from None
    with client:
        if any(threads > 1 for threads in client.nthreads().values()):
            raise InputError(
                f"a worker of {address} runs several tasks at once; start the workers with "
                "--nthreads 1, and as many as there are cores with --nworkers."
            )
        yield client
