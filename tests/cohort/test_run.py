"""The run of a cohort: the window of pairs, retries, other runs, and a whole run on two workers."""

from __future__ import annotations

import csv
import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stn3d.cohort import CohortPair, CohortRequest, PairRecord, SchedulerChoice, register_cohort
from stn3d.cohort import needs as needs_module
from stn3d.cohort.layout import CohortFolder
from stn3d.cohort.needs import local_workers, needed_gb
from stn3d.cohort.request import open_cohort
from stn3d.cohort.run import run_one
from stn3d.cohort.run_pair import Outcome, PairTask
from stn3d.cohort.window import InterruptedRunError, Run
from stn3d.errors import InputError

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client() -> Iterator[object]:
    """A worker in this process."""
    with distributed.Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0",
        resources={"memory_gb": 4}, silence_logs=60,
    ) as client:  # fmt: skip
        yield client


def run_of(pairs: list[CohortPair], out: Path, work: Callable[[PairTask], Outcome]) -> Run:
    folder, request = CohortFolder.at(out), CohortRequest()
    open_cohort(folder, request)
    return Run(pairs, request, folder, retries=2, work=work)


def done(task: PairTask, tries: int = 1) -> Outcome:
    record = PairRecord(task.pair.name, "done", tries=tries, row={"status": "good"})
    return Outcome(task.pair.name, record)


CALLS: Counter[str] = Counter()
"""How often the worker, which lives in this process, was given each pair."""


def faulty(task: PairTask) -> Outcome:
    name = task.pair.name
    CALLS[name] += 1
    failed = PairRecord(name, "error", "stale")
    if (name == "p1" and CALLS[name] < 3) or name == "p2":
        return Outcome(name, failed, "transient")
    if name == "p3" and CALLS[name] == 1:
        return Outcome(name, None, "busy")
    if name == "q0" and CALLS[name] == 1:
        return Outcome(name, None, "first_run")
    if name == "q1":
        return Outcome(name, failed)
    if name == "q2":
        raise RuntimeError("cannot even report")
    return done(task, task.tries + 1)


def full(task: PairTask) -> Outcome:
    name = task.pair.name
    return Outcome(name, PairRecord(name, "error", "No space left"), "disk_full")


def test_each_fault_is_dealt_with(client: object, pairs: list[CohortPair], tmp_path: Path) -> None:
    """Transient errors are tried again, at most twice; pairs of others are waited for; a process
    that compiled kernels is asked again; other errors are recorded at once."""
    more = [dataclasses.replace(pairs[0], name=f"q{n}") for n in range(60)]
    calls = CALLS
    calls.clear()
    run = run_of([*pairs, *more], tmp_path / "out", faulty)
    seen: list[tuple[int, str]] = []
    run.report = lambda number, total, name, status, seconds: seen.append((number, name))
    run.on(client, run.open_pairs(), 4.0)  # type: ignore[arg-type]
    found = {name: (record.state, record.tries) for name, record in run.records.items()}
    assert calls["p1"] == calls["p2"] == 3
    assert found["p1"] == ("done", 3)
    assert found["p2"][0] == found["q1"][0] == found["q2"][0] == "error"
    assert run.records["q2"].error == "RuntimeError: cannot even report"
    assert (calls["p3"], calls["q0"], calls["q1"]) == (2, 2, 1)
    assert found["p3"] == found["q0"] == ("done", 1)
    assert seen[-1] == (63, "p3")  # last, since another run had it
    assert [number for number, _ in seen] == list(range(1, 64))


def test_a_full_disk_ends_the_run(client: object, pairs: list[CohortPair], tmp_path: Path) -> None:
    run = run_of(pairs, tmp_path / "out", full)
    with pytest.raises(InterruptedRunError, match="is full; free some space"):
        run.on(client, pairs, 4.0)  # type: ignore[arg-type]
    assert len(run.records) == 1


def test_pairs_that_do_not_fit_are_put_off(
    client: object, pairs: list[CohortPair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"p1": 1.0, "p2": 9.0, "p3": 2.0}
    monkeypatch.setattr("stn3d.cohort.window.needed_gb", lambda pair, _: sizes[pair.name])
    run = run_of(pairs, tmp_path / "out", done)
    run.on(client, pairs, 4.0)  # type: ignore[arg-type]
    assert set(run.records) == {"p1", "p3"}
    assert [pair.name for pair in run.too_large] == ["p2"]
    run.begin_large()
    assert [pair.name for pair in run.open_pairs()] == ["p2"]


def test_as_many_workers_as_cores_and_memory_allow(
    pairs: list[CohortPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs_module, "available_cores", lambda: 8)
    monkeypatch.setattr(needs_module, "allowed_gb", lambda _: (10.0, "for the test"))
    found = {
        need: dataclasses.astuple(local_workers(need, None, None)) for need in (1.0, 3.0, 6.0, 20.0)
    }
    assert found == {
        1.0: (8, 1, 1.25), 3.0: (3, 2, 10 / 3), 6.0: (1, 8, 10.0), 20.0: (1, 8, 20.0)
    }  # fmt: skip
    assert dataclasses.astuple(local_workers(1.0, 4, None)) == (2, 4, 5.0)
    assert local_workers(1.0, None, 5).count == 5
    assert local_workers(1.0, None, None, "cuda").count == 1
    assert needed_gb(pairs[0], CohortRequest.of({"kind": "rigid"})) == 0.6
    missing = dataclasses.replace(pairs[0], files={**pairs[0].files, "moving": "nowhere.nii.gz"})
    assert needed_gb(missing, CohortRequest()) == 0.6


def test_a_cohort_on_two_workers(
    pairs: list[CohortPair], request_: CohortRequest, tmp_path: Path
) -> None:
    """Registered, recorded, resumed; the same as one by one, whatever the workers."""
    out, alone = tmp_path / "out", tmp_path / "alone"
    gone = dataclasses.replace(
        pairs[0], name="gone", files={**pairs[0].files, "moving": str(tmp_path / "gone.nii.gz")}
    )
    every = [*pairs, gone]
    result = register_cohort(every, out, request_, scheduler=SchedulerChoice(workers=2))
    assert result.interruption == ""
    assert result.counts()["error"] == 1
    assert result.has_failed
    assert result.failures(9)[-1].startswith("gone: error; there is no moving image")
    with result.folder.summary.open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["p1", "p2", "p3", "gone"]
    assert [row["state"] for row in rows.values()] == ["done", "done", "done", "error"]
    assert float(rows["p1"]["correlation_after"]) > 0.9
    for index in range(3):
        record = run_one(every, index, alone, request_)
        assert record.outputs.keys() == result.records[record.name].outputs.keys()
        for path, known in record.outputs.items():
            if Path(path).suffix not in (".json", ".html", ".png"):  # they hold times
                assert known == result.records[record.name].outputs[path]
    seen: list[str] = []
    again = register_cohort(
        pairs, out, request_, report=lambda *found: seen.append(found[2])
    )  # no worker is started
    assert seen == []
    assert not {name for name in again.records if again.records[name] != result.records[name]}


def test_a_folder_holds_one_cohort(
    pairs: list[CohortPair], request_: CohortRequest, tmp_path: Path
) -> None:
    folder = CohortFolder.at(tmp_path / "out")
    open_cohort(folder, request_)
    open_cohort(folder, CohortRequest.of({**request_.options, "threads": 7}))
    other = CohortRequest.of({**request_.options, "kind": "affine"})
    with pytest.raises(InputError, match="kind rigid, and affine is asked for"):
        open_cohort(folder, other)
    open_cohort(folder, other, rerun=True)
    open_cohort(folder, other)
    text = folder.description.read_text(encoding="utf-8")
    folder.description.write_text(text.replace('"stn3d": "', '"stn3d": "9.'))
    with pytest.raises(InputError, match=r"results of stn3d 9\."):
        open_cohort(folder, other)
    with pytest.raises(InputError, match="no pair 3; the cohort has 0 to 2"):
        run_one(pairs, 3, tmp_path / "out", other, rerun=True)


def test_what_is_missing_is_said_before_any_work(
    pairs: list[CohortPair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stn3d.cohort.scheduler.CONNECT_S", 1)
    with pytest.raises(InputError, match=r"no Dask scheduler at 127\.0\.0\.1:1"):
        register_cohort(pairs, tmp_path / "out", scheduler=SchedulerChoice("127.0.0.1:1"))
    for name, package in (("local", "distributed"), ("slurm", "dask_jobqueue")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(InputError, match=r"needs .*; install it with pip install 'stn3d\["):
            register_cohort(pairs, tmp_path / "out", scheduler=SchedulerChoice(name))
        monkeypatch.undo()
    assert not (tmp_path / "out").exists()
