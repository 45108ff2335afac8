"""The load of a scheduler by many pairs whose registration is skipped.

    python -m scripts.bench.studies.cohort.overhead COUNT FOLDER

Reading the table, estimates of memory, submission, locks, fingerprints of small files, records,
summary and index are real; scheduler and workers are processes of their own. Prints JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil

from scripts.bench.studies.cohort.faults import start_dask
from stn3d.cohort import CohortRequest, read_cohort
from stn3d.cohort import run_pair as run_pair_module
from stn3d.cohort.layout import CohortFolder
from stn3d.cohort.needs import WorkerPlan
from stn3d.cohort.request import open_cohort
from stn3d.cohort.run_pair import Outcome, PairTask, run_pair
from stn3d.cohort.scheduler import SchedulerChoice, cluster
from stn3d.cohort.summary import write_summary
from stn3d.cohort.window import Run

_METRICS = {"quality": {"status": "good", "reason": "not registered"}, "timings_s": {"read": 0.0}}


class _Nothing:
    """A registration that was not made, with one small file."""

    metrics = _METRICS

    def save(self, folder: Path, _: Any) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.json"
        path.write_text(json.dumps(_METRICS))
        return [path]


def pretend(task: PairTask) -> Outcome:
    """`run_pair` without its registration."""
    run_pair_module.register = lambda *_, **__: _Nothing()  # type: ignore[assignment]
    return run_pair(task)


def make_pairs(folder: Path, count: int) -> Path:
    """A table of small images."""
    folder.mkdir(parents=True, exist_ok=True)
    values = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    nib.Nifti1Image(values, np.diag([4.0, 4, 4, 1])).to_filename(folder / "fixed.nii")
    content = (folder / "fixed.nii").read_bytes()
    rows = ["name,fixed,moving"]
    for number in range(count):
        (folder / f"m{number}.nii").write_bytes(content + number.to_bytes(4, "little"))
        rows.append(f"p{number},fixed.nii,m{number}.nii")
    table = folder / "pairs.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


@contextmanager
def scheduler_and_workers(file: Path, workers: int) -> Iterator[psutil.Process]:
    """A scheduler and one-thread workers as processes of their own."""
    started = [start_dask("scheduler", file, "--port", "0", "--host", "127.0.0.1")]
    try:
        while not file.exists():
            time.sleep(0.1)
        one_task = ("--nthreads", "1", "--memory-limit", "0")
        started.append(start_dask("worker", file, "--nworkers", str(workers), *one_task))
        yield psutil.Process(started[0].pid)
    finally:
        for one in started:
            one.terminate()
        for one in started:
            one.wait()


def measured(count: int, folder: Path) -> dict[str, float]:
    """Seconds and memory of each step."""
    table, out = make_pairs(folder / "data", count), CohortFolder.at(folder / "out")
    found: dict[str, float] = {"pairs": count}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        found[f"{name}_s"] = round(time.perf_counter() - begin, 2)

    request = CohortRequest.of({"kind": "rigid"})
    with timed("read"):
        pairs = read_cohort(table)
    with timed("missing"):
        assert not [pair for pair in pairs if pair.missing()]
    open_cohort(out, request)
    run = Run(pairs, request, out, work=pretend, threads=1)
    with scheduler_and_workers(folder / "scheduler.json", 2) as scheduler:
        choice = SchedulerChoice(str(folder / "scheduler.json"))
        with cluster(choice, WorkerPlan(2, 1, 1.0), out) as client:
            client.wait_for_workers(2)
            before_cpu, mine = sum(scheduler.cpu_times()[:2]), time.process_time()
            with timed("run"):
                run.on(client, pairs, None)
            found["scheduler_cpu_s"] = round(sum(scheduler.cpu_times()[:2]) - before_cpu, 2)
            found["client_cpu_s"] = round(time.process_time() - mine, 2)
            status = Path(f"/proc/{scheduler.pid}/status").read_text()
            peak = int(status.partition("VmHWM:")[2].split()[0])
            found["scheduler_peak_mb"] = round(peak / 1024, 1)
    found["client_peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    with timed("summary"):
        write_summary(out, pairs, run.records)
    again = Run(pairs, request, out, work=pretend)
    with timed("resume"):
        again.find_finished()
    assert len(again.records) == count
    found["tasks_per_s"] = round(count / found["run_s"], 1)
    return found


if __name__ == "__main__":
    print(json.dumps(measured(int(sys.argv[1]), Path(sys.argv[2]))))
