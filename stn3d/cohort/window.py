"""The state of a run: pairs go to workers in a bounded window and come back as records."""

from __future__ import annotations

import dataclasses
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stn3d.cohort.layout import CohortFolder
from stn3d.cohort.needs import needed_gb
from stn3d.cohort.on_worker import on_worker, packed
from stn3d.cohort.pairs import CohortPair
from stn3d.cohort.record import PairRecord, is_finished, read_record
from stn3d.cohort.request import CohortRequest
from stn3d.cohort.run_pair import Outcome, PairTask, run_pair, unstarted
from stn3d.cohort.scheduler import MEMORY
from stn3d.errors import shown_text

if TYPE_CHECKING:
    from distributed import Client

Work = Callable[[PairTask], Outcome]
Report = Callable[[int, int, str, str, float], None]
"""Called with how many pairs are finished, of how many, the last one's name, status and seconds."""

_WINDOW_PER_WORKER = 4
_LEAST_WINDOW = 16
_BUSY_S = 2.0  # until a pair of another run is asked for again
_COUNT_S = 5.0  # between counts of the workers


class InterruptedRunError(Exception):
    """The run ended before all pairs were registered; the message says why."""


@dataclass
class Run:
    """The state of a run.

    Args:
        pairs: all pairs.
        request: what is asked for all pairs.
        folder: the folder of the cohort.
        retries: how often a pair is tried again.
        report: called whenever a pair is finished.
        verify: read the contents of finished pairs.
        work: what a worker does with a pair.
        threads: threads of a worker.
    """

    pairs: Sequence[CohortPair]
    request: CohortRequest
    folder: CohortFolder
    retries: int = 2
    report: Report | None = None
    verify: bool = False
    work: Work = run_pair
    threads: int | None = None
    records: dict[str, PairRecord] = field(default_factory=dict)
    too_large: list[CohortPair] = field(default_factory=list)
    _busy: list[PairTask] = field(default_factory=list)
    _only: list[CohortPair] | None = None

    def find_finished(self) -> None:
        """Take over the pairs that are finished in the folder."""
        recorded = {entry.name for entry in os.scandir(self.folder.records)}
        for pair in self.pairs:
            if f"{pair.name}.json" in recorded:
                record = read_record(self.folder, pair.name)
                if is_finished(record, pair, self.request, self.folder, verify=self.verify):
                    assert record is not None
                    self.records[pair.name] = record

    def open_pairs(self) -> list[CohortPair]:
        """The pairs that have no record yet in this run."""
        wanted = self.pairs if self._only is None else self._only
        return [pair for pair in wanted if pair.name not in self.records]

    def with_earlier(self) -> dict[str, PairRecord]:
        """The records of this run, and of pairs that it did not come to, those of earlier ones."""
        names = (pair.name for pair in self.pairs if pair.name not in self.records)
        earlier = (read_record(self.folder, name) for name in names)
        wanted = self.request.digest
        return self.records | {r.name: r for r in earlier if r is not None and r.request == wanted}

    def begin_large(self) -> None:
        """Go on with the pairs that were too large for the workers."""
        self._only, self.too_large = self.too_large, []

    def on(self, client: Client, pairs: Sequence[CohortPair], limit_gb: float | None) -> None:
        """Register pairs on the workers of a client.

        Args:
            client: client of the scheduler.
            pairs: the pairs.
            limit_gb: memory of a worker; larger pairs are put off. None where workers declare it.

        Raises:
            InterruptedRunError: the scheduler is gone, or the disk is full.
        """
        _Window(self, client, limit_gb).run(self._tasks(pairs))

    def _tasks(self, pairs: Iterable[CohortPair]) -> Iterator[PairTask]:
        options = dict(self.request.options)
        if self.threads is not None:
            options["threads"] = self.threads
        request = dataclasses.replace(self.request, options=options)
        for pair in pairs:
            yield PairTask(pair, request, self.folder.root, verify=self.verify)

    def finish(self, record: PairRecord) -> None:
        """Take the record of a pair."""
        self.records[record.name] = record
        if self.report is not None:
            done, total = len(self.records), len(self.pairs)
            self.report(done, total, record.name, record.status, record.seconds)


class _Window:
    """Pairs that the scheduler knows of: a few for each worker, however many there are."""

    def __init__(self, run: Run, client: Client, limit_gb: float | None) -> None:
        from distributed import as_completed

        self._run, self._client, self._limit_gb = run, client, limit_gb
        self._completed = as_completed(with_results=True, raise_errors=False)
        self._tasks: dict[str, PairTask] = {}
        self._busy: deque[tuple[float, PairTask]] = deque()
        self._counted_s, self._size = 0.0, _LEAST_WINDOW

    def run(self, tasks: Iterator[PairTask]) -> None:
        """Register pairs; see `Run.on`."""
        self._fill(tasks)
        while self._tasks or self._busy:
            if not self._tasks:
                time.sleep(max(0.0, self._busy[0][0] - time.monotonic()))
                self._submit(self._busy.popleft()[1])
            future, result = next(self._completed)
            task = self._tasks.pop(future.key)
            self._take(task, future, result)
            self._fill(tasks)

    def _fill(self, tasks: Iterator[PairTask]) -> None:
        """Submit pairs until the window is full."""
        self._count_workers()
        while self._busy and self._busy[0][0] <= time.monotonic():
            self._submit(self._busy.popleft()[1])
        while len(self._tasks) < self._size and (task := next(tasks, None)) is not None:
            self._submit(task)

    def _count_workers(self) -> None:
        now = time.monotonic()
        if now - self._counted_s > _COUNT_S:
            self._counted_s = now
            try:
                workers = len(self._client.nthreads())
            except (OSError, TimeoutError) as error:
                raise self._lost() from error
            self._size = max(_LEAST_WINDOW, _WINDOW_PER_WORKER * workers)

    def _submit(self, task: PairTask) -> None:
        resources = {}
        if self._limit_gb is not None:
            need_gb = needed_gb(task.pair, task.request)
            if need_gb > self._limit_gb * 1.001:
                self._run.too_large.append(task.pair)
                return
            resources = {MEMORY: need_gb}
        key = f"pair-{task.pair.name}-{task.tries}-{time.monotonic_ns()}"
        content = packed(self._run.work, task)
        future = self._client.submit(
            on_worker, content, key=key, pure=False, resources=resources, retries=0
        )
        self._tasks[key] = task
        self._completed.add(future)

    def _take(self, task: PairTask, future: Any, result: Any) -> None:
        """What comes back of a pair."""
        status = future.status
        future.release()  # a result that is still held would be computed again if its worker dies
        if status in ("cancelled", "lost"):
            self._resubmit_lost(task)
            return
        if status == "error":
            self._run.finish(unstarted(task.pair, _death(result), tries=self._run.retries + 1))
            return
        address, outcome = result
        if outcome.fault == "busy":
            self._busy.append((time.monotonic() + _BUSY_S, task))
        elif outcome.fault == "first_run":
            self._restart(address)
            self._submit(dataclasses.replace(task, first_runs=task.first_runs + 1))
        elif outcome.fault == "transient" and task.tries < self._run.retries:
            self._submit(dataclasses.replace(task, tries=task.tries + 1))
        else:
            self._run.finish(outcome.record)
            if outcome.fault == "disk_full":
                raise InterruptedRunError(
                    f"the disk of {self._run.folder.root} is full; free some space and run the "
                    "same command again: finished pairs are kept."
                )

    def _resubmit_lost(self, task: PairTask) -> None:
        """Submit a pair again whose result was lost with its worker.

        Raises:
            InterruptedRunError: the scheduler is gone, too.
        """
        if self._client.status != "running":
            raise self._lost()
        self._submit(task)

    def _restart(self, address: str) -> None:
        """Restart a worker that compiled kernels, so that it loads them like all others."""
        try:
            self._client.restart_workers([address], timeout=60, raise_for_error=False)
        except (ValueError, TimeoutError, KeyError):  # it has no nanny, or has died
            return

    def _lost(self) -> InterruptedRunError:
        return InterruptedRunError(
            "the scheduler is gone; run the same command again: finished pairs are kept."
        )


def _death(error: Any) -> str:
    """Why a worker could not report."""
    exception = error[1] if isinstance(error, tuple) and len(error) == 3 else error
    if type(exception).__name__ == "KilledWorker":
        return (
            "every worker that began the pair died, perhaps for lack of memory; see --max-memory "
            "and --workers."
        )
    return f"{type(exception).__name__}: {shown_text(str(exception))}"
