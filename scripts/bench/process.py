"""Run a command as a whole process; measure its wall time, CPU time and peak memory.

On Linux, the peak memory of a process includes that of the process it was started from, up to the
moment when its own program is loaded. A parent that has imported torch would thus add hundreds of
megabytes. Therefore `run_process` starts this file as a helper (``python -I -S process.py
COMMAND``), a Python process of about 10 MB, which starts the command and waits for it. **This file
must import nothing but the standard library**; the studies may import what they like.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

Cost = dict[str, float]


def run_process(command: Sequence[str], allowed: Sequence[int] = (0,)) -> Cost:
    """Run a command to its end.

    Args:
        command: program and arguments.
        allowed: exit codes that are not failures.

    Returns:
        ``wall_s`` and ``cpu_s`` in seconds, ``peak_gb`` in GB (2**30 bytes).

    Raises:
        subprocess.CalledProcessError: any other exit code; ``stderr`` is what the command printed.
    """
    helper = [sys.executable, "-I", "-S", os.path.abspath(__file__), *command]
    with tempfile.TemporaryFile() as log:
        measured = subprocess.run(helper, stdout=subprocess.PIPE, stderr=log, check=False)
        cost: Cost = json.loads(measured.stdout) if measured.returncode == 0 else {}
        exit_code = int(cost.pop("exit_code", measured.returncode))
        if exit_code not in allowed or not cost:
            log.seek(0)
            printed = log.read().decode(errors="replace")
            raise subprocess.CalledProcessError(exit_code, list(command), stderr=printed)
    return cost


def failure_reason(error: subprocess.CalledProcessError) -> str:
    """The last line that a process printed, or the signal that ended it."""
    if error.returncode < 0:
        return f"ended by {signal.Signals(-error.returncode).name}"
    lines = [line.strip() for line in (error.stderr or "").splitlines() if line.strip()]
    return lines[-1] if lines else f"ended with exit code {error.returncode}"


def measure(command: Sequence[str]) -> dict[str, float]:
    """The helper's work: start the command, wait for it, and read the kernel's account of it.

    The command's output goes to the standard error.
    """
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=sys.stderr, stderr=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    cpu = usage.ru_utime + usage.ru_stime
    peak = usage.ru_maxrss / (1024**3 if sys.platform == "darwin" else 1024**2)
    cost = {"wall_s": round(wall, 1), "cpu_s": round(cpu, 1), "peak_gb": round(peak, 2)}
    return cost | {"exit_code": os.waitstatus_to_exitcode(status)}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1:])))
