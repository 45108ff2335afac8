"""One pair in one process: what is written, what makes it finished, and errors."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stn3d.cohort import CohortPair, CohortRequest
from stn3d.cohort import run_pair as module
from stn3d.cohort.layout import CohortFolder
from stn3d.cohort.lock import locked
from stn3d.cohort.record import is_finished, read_record
from stn3d.cohort.request import open_cohort
from stn3d.cohort.run_pair import Outcome, PairTask, run_pair
from stn3d.errors import InputError
from tests.cohort.conftest import write_image


@pytest.fixture
def task(pairs: list[CohortPair], request_: CohortRequest, tmp_path: Path) -> PairTask:
    folder = CohortFolder.at(tmp_path / "out")
    open_cohort(folder, request_)
    return PairTask(pairs[0], request_, folder.root, first_runs=9)


def test_a_pair_is_registered_once(task: PairTask, tmp_path: Path) -> None:
    folder = CohortFolder(task.root)
    stale = task.root / "p1" / ".part-0123456789ab-moved.nii.gz"
    other = task.root / "p1" / ".part-0123456789ab-mine.nii.gz"
    for one in (stale, other):
        one.parent.mkdir(exist_ok=True)
        one.touch()
    first = run_pair(task)
    assert first.record is not None
    assert (first.record.state, first.record.tries, first.fault) == ("done", 1, "")
    assert not stale.exists()
    assert other.exists()
    names = {"p1/moved.nii.gz", "p1/transform.h5", "p1/inverse.h5", "p1/metrics.json"}
    assert names <= set(first.record.outputs)
    assert first.record == read_record(folder, "p1")
    metrics = json.loads((task.root / "p1/metrics.json").read_text(encoding="utf-8"))
    assert first.record.row["status"] == metrics["quality"]["status"]
    again = run_pair(task)
    assert again == Outcome("p1", first.record, was_finished=True)


def test_what_makes_a_pair_unfinished(task: PairTask, tmp_path: Path) -> None:
    """A change of size, or of content where the time or `verify` says to look."""
    folder, pair = CohortFolder(task.root), task.pair
    record = run_pair(task).record

    def finished(**options: Any) -> bool:
        return is_finished(record, pair, task.request, folder, **options)

    assert finished()
    assert finished(verify=True)
    moving, moved = Path(pair.files["moving"]), task.root / "p1/moved.nii.gz"
    os.utime(moving)  # touched, with the same content
    assert finished()
    for file in (moving, moved):
        kept = file.read_bytes()
        changed = bytes([*kept[:-1], kept[-1] ^ 1])
        file.write_bytes(changed)
        if file == moving:
            assert not finished()
        else:
            assert finished()  # whole by its size, so far as can be told without reading
        assert not finished(verify=True)
        file.write_bytes(kept[:-1])
        assert not finished()
        file.unlink()
        assert not finished()
        file.write_bytes(kept)
        assert finished(verify=True)
    other = CohortRequest.of({**task.request.options, "metric": "ncc"})
    assert not is_finished(record, pair, other, folder)
    more = dataclasses.replace(pair, files={**pair.files, "fixed_mask": pair.files["fixed"]})
    assert not is_finished(record, more, task.request, folder)
    assert not is_finished(None, pair, task.request, folder)
    folder.record("p1").write_text("{")
    assert read_record(folder, "p1") is None


def test_a_changed_pair_is_registered_again(task: PairTask) -> None:
    first = run_pair(task).record
    write_image(Path(task.pair.files["moving"]), 0, 5)
    second = run_pair(task).record
    assert first is not None
    assert second is not None
    assert first.outputs["p1/transform.h5"] != second.outputs["p1/transform.h5"]


def test_errors_become_records(task: PairTask, tmp_path: Path) -> None:
    fixed, moving = (Path(task.pair.files[role]) for role in ("fixed", "moving"))
    shutil.copy(fixed, moving)
    moving.write_bytes(moving.read_bytes()[:300])
    outcome = run_pair(task)
    assert outcome.fault == ""
    assert outcome.record is not None
    assert outcome.record.state == "error"
    assert "im1.nii.gz" in outcome.record.error
    moving.unlink()
    outcome = run_pair(task)
    assert outcome.record is not None
    assert outcome.record.error == f"there is no moving image {moving}; check the path."
    assert not (task.root / "p1").exists() or not list((task.root / "p1").iterdir())
    assert read_record(CohortFolder(task.root), "p1") == outcome.record


def full(*_: Any, **__: Any) -> Any:
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    except OSError as error:
        raise InputError("cannot write moved.nii.gz: No space left on device") from error


def stale(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ESTALE, "Stale file handle")


def wrong(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("a fault of ours")


@pytest.mark.parametrize(
    ("raises", "fault", "error"),
    [
        (full, "disk_full", "No space left"),
        (stale, "transient", "OSError: [Errno 116] Stale file handle"),
        (wrong, "", "ZeroDivisionError: a fault of ours"),
    ],
)
def test_faults_of_the_machine_are_told_from_others(
    task: PairTask,
    monkeypatch: pytest.MonkeyPatch,
    raises: Callable[..., Any],
    fault: str,
    error: str,
) -> None:
    monkeypatch.setattr(module, "register", raises)
    outcome = run_pair(task)
    assert outcome.fault == fault
    assert outcome.record is not None
    assert error in outcome.record.error


def test_an_input_that_changes_meanwhile_is_not_recorded(
    task: PairTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    register = module.register

    def slow(*args: Any, **options: Any) -> Any:
        found = register(*args, **options)
        write_image(Path(task.pair.files["moving"]), 1)
        return found

    monkeypatch.setattr(module, "register", slow)
    outcome = run_pair(task)
    assert outcome.fault == "transient"
    assert outcome.record is not None
    assert "im1.nii.gz was changed while it was registered" in outcome.record.error
    assert not (task.root / "p1").exists()


def test_a_pair_of_another_process_is_left_alone(task: PairTask) -> None:
    with locked(CohortFolder(task.root).lock("p1")):
        assert run_pair(task) == Outcome("p1", None, "busy")


def test_results_of_a_process_that_compiled_are_not_kept(
    task: PairTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_first_run", lambda: True)
    assert run_pair(dataclasses.replace(task, first_runs=0)) == Outcome("p1", None, "first_run")
    assert not list(task.root.glob("p1/*"))
    assert run_pair(task).record is not None  # in the end it is accepted
