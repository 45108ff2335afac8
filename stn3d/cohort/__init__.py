"""Many pairs: registered on Dask or by array jobs, resumable, with a summary of all."""

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
