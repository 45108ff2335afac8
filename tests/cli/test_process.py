"""The process of a command: when it began, and what its imports leave behind."""

from __future__ import annotations

import gc
import subprocess
import sys
import time

import pytest

from stn3d.cli import process


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process was started")
def test_the_age_of_a_process_counts_from_its_start() -> None:
    program = (
        "import time; time.sleep(0.3); from stn3d.cli import process; "
        "process.begin(at_start_of_process=True); print(process.process_age_s(), process.seconds())"
    )
    begin = time.perf_counter()
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8")
    most = time.perf_counter() - begin
    age, seconds = map(float, ran.stdout.split())
    assert 0.3 <= age <= most
    assert seconds == pytest.approx(age, abs=0.1)


def test_a_command_called_from_python_counts_from_its_call() -> None:
    process.begin()
    time.sleep(0.01)
    assert 0.01 <= process.seconds() < 5


def test_what_was_there_before_is_not_frozen() -> None:
    frozen = gc.get_freeze_count()
    with process.slow_imports():  # torch is here already, with all that the tests have made
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen


def test_the_imports_of_a_new_process_are_frozen() -> None:
    program = (
        "import gc; from stn3d.cli.process import slow_imports\n"
        "with slow_imports(): import torch\n"
        "print(gc.get_freeze_count())"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8")
    assert int(ran.stdout) > 100_000
