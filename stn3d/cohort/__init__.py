"""Many pairs: registered on Dask or by array jobs, resumable, with a summary of all.

Names are imported when they are first used, so that a Dask scheduler, which needs `on_worker`
alone, imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stn3d.cohort.pairs import CohortPair, read_cohort
    from stn3d.cohort.record import PairRecord
    from stn3d.cohort.request import CohortRequest
    from stn3d.cohort.run import register_cohort, run_one, summarise_cohort
    from stn3d.cohort.scheduler import SchedulerChoice
    from stn3d.cohort.summary import CohortResult

__all__ = [
    "CohortPair",
    "CohortRequest",
    "CohortResult",
    "PairRecord",
    "SchedulerChoice",
    "read_cohort",
    "register_cohort",
    "run_one",
    "summarise_cohort",
]

_HOMES = {
    "CohortPair": "pairs",
    "CohortRequest": "request",
    "CohortResult": "summary",
    "PairRecord": "record",
    "SchedulerChoice": "scheduler",
    "read_cohort": "pairs",
    "register_cohort": "run",
    "run_one": "run",
    "summarise_cohort": "run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
