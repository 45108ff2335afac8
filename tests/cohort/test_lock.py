"""Locks between processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stn3d.cohort import lock
from stn3d.cohort.lock import LockedError, locked

HOLD = """
import runpy, sys, time
from pathlib import Path
locked = runpy.run_path(sys.argv[2])["locked"]  # without its package, which imports torch
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "a.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), lock.__file__], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(LockedError), locked(path):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert path.exists()  # left behind, and of no consequence
    with locked(path):
        pass
    assert not path.exists()


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    """Threads open the file anew, as processes do; the file is removed and made all the time."""
    path, inside, most, turns = tmp_path / "a.lock", [], [], [0]

    def work() -> None:
        while turns[0] < 200:
            try:
                with locked(path):
                    inside.append(1)
                    most.append(len(inside))
                    turns[0] += 1
                    inside.pop()
            except LockedError:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert not path.exists()
