"""Free memory of the machine and of control groups."""

from __future__ import annotations

import sys

import pytest

from stn3d.memory import free as free_memory
from stn3d.memory.free import free_gb


def test_the_machine_and_every_cgroup_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    gib = 2**30
    files = {
        "/proc/meminfo": "MemTotal: 99999999 kB\nMemAvailable: 8388608 kB\n",
        "/proc/self/cgroup": "0::/jobs/mine\n",
        "/sys/fs/cgroup/jobs/mine/memory.max": "max\n",
    }
    monkeypatch.setattr(free_memory, "_read", lambda path: files.get(str(path), ""))
    assert free_gb() == 8
    files |= {
        "/sys/fs/cgroup/jobs/memory.max": f"{4 * gib}\n",
        "/sys/fs/cgroup/jobs/memory.current": f"{3 * gib}\n",
        "/sys/fs/cgroup/jobs/memory.stat": f"anon 7\ninactive_file {gib}\n",
    }
    assert free_gb() == 2
    files["/sys/fs/cgroup/jobs/memory.max"] = f"{gib}\n"  # lowered below what is in use
    assert free_gb() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is sure to tell")
def test_this_machine_tells() -> None:
    free = free_gb()
    assert free is not None
    assert 0 < free < 1e5
