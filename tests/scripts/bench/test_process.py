"""The cost of a process is its own, whatever the process that measures it has in memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from scripts.bench.process import failure_reason, run_process


def test_the_cost_of_a_process_is_its_own() -> None:
    busy = "import time; x = bytearray(300 << 20); end = time.process_time() + 0.3\n"
    cost = run_process([sys.executable, "-c", busy + "while time.process_time() < end: pass"])
    assert 0.3 <= cost["cpu_s"] < 3
    assert cost["wall_s"] >= 0.3
    assert 0.29 < cost["peak_gb"] < 3


def test_the_peak_does_not_include_the_memory_of_this_process() -> None:
    block = np.ones(500 << 20, np.uint8)
    assert run_process([sys.executable, "-c", "pass"])["peak_gb"] < 0.1
    assert block[-1] == 1


def test_allowed_exit_codes_are_no_failures() -> None:
    command = [sys.executable, "-c", "print('words'); raise SystemExit(3)"]
    assert set(run_process(command, allowed=(0, 3))) == {"wall_s", "cpu_s", "peak_gb"}
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_process(command)
    assert caught.value.returncode == 3
    assert failure_reason(caught.value) == "words"


def test_a_program_that_does_not_exist_is_a_failure() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_process(["no-such-program"])
    assert "no-such-program" in failure_reason(caught.value)
