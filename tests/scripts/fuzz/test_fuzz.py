"""Damaged files and random command lines, a few of each; `scripts.bench fuzz` runs many."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from scripts.fuzz import supervisor
from scripts.fuzz.cases import BAD, Outcome
from scripts.fuzz.commands import COMMANDS
from scripts.fuzz.samples import all_samples
from scripts.fuzz.supervisor import run_cases

SLOW = ("register", "series", "evaluate", "train", "cohort", "template", "segment")
QUICK = [name for name in COMMANDS if name not in SLOW]
FORMATS = list(dict.fromkeys(one.format for one in all_samples()))
IN_OWN_PROCESS = [name for name in FORMATS if name not in ("bundle", "checkpoint")]


@pytest.mark.parametrize(
    ("names", "cases"),
    [(IN_OWN_PROCESS, 12), (QUICK, 8)],
    ids=["damaged files", "random command lines"],
)
def test_cases_end_with_a_result_or_a_sentence(names: list[str], cases: int) -> None:
    found = list(run_cases(names, 0, cases))
    assert len(found) == cases * len(names)
    assert [one for one in found if one.outcome in BAD] == []
    assert Counter(one.outcome for one in found)["refused"] > 0.2 * len(found)


def test_cases_are_the_same_in_each_process() -> None:
    first, second = ([one.plain() | {"cpu_s": 0, "peak_mb": 0} for one in run_cases(["csv"], 0, 20)]
                     for _ in range(2))  # fmt: skip
    assert first == second


def test_a_crash_is_attributed_to_its_case(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: list[tuple[int, int]] = []

    def outcomes(child: Any, _: Any) -> Iterator[Outcome]:
        start = int(child.args[-1])
        numbers.append((start, child.args.index("--start")))
        for number in range(start, 3):
            yield Outcome("csv", number, "read")
        yield Outcome("csv", 3, "crash", "SIGSEGV")

    monkeypatch.setattr(supervisor, "_outcomes", outcomes)
    found = list(run_cases(["csv"], 0, 4))
    assert [(one.number, one.outcome) for one in found] == [
        (0, "read"), (1, "read"), (2, "read"), (3, "crash"),
    ]  # fmt: skip


def test_a_child_that_dies_names_its_last_case(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.write(write, b'{"name": "csv", "number": 7}\n')
    os.close(write)

    class Dead:
        def wait(self) -> int:
            return -signal.SIGSEGV

    dead: Any = Dead()
    with os.fdopen(read, "rb") as pipe:
        [found] = supervisor._outcomes(dead, pipe)
    assert (found.name, found.number, found.outcome, found.detail) == ("csv", 7, "crash", "SIGSEGV")


def test_a_silent_child_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_SILENCE_S", 0.1)
    read, write = os.pipe()
    os.write(write, b'{"name": "csv", "number": 7}\n')
    child: Any = None
    with os.fdopen(read, "rb") as pipe:
        [found] = supervisor._outcomes(child, pipe)
    os.close(write)
    assert (found.name, found.number, found.outcome) == ("csv", 7, "hang")
