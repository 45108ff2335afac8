"""Cohorts: pairs an hour, faults at random moments, and the load of the scheduler.

    python -m scripts.bench cohort run [--parts throughput,killed,overhead,faults] [--pairs 20]

throughput: pairs of brains as a cohort of two one-thread workers, of one two-thread worker, as a
shell loop of two-thread registrations, and by greedy (a few pairs). killed: the cohort again, with
workers and the whole run killed. overhead: pairs whose registration is skipped; planning, hashing,
locks, records and the scheduler are real. faults: small cohorts, each with a fault at a random
moment. The machine must be idle for the first two parts.
"""

from scripts.bench.studies.cohort.page import report
from scripts.bench.studies.cohort.study import Options, run

__all__ = ["Options", "report", "run"]
