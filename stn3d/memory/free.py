"""Memory that is free, of the machine and of the control groups of this process."""

from __future__ import annotations

import os
from pathlib import Path

_GB = 2**30


def free_gb() -> float | None:
    """Memory available to new processes, of the machine and of this process's cgroups, in GB; None
    where the system does not report it."""
    known = [free for free in (_machine_bytes(), _cgroup_bytes()) if free is not None]
    return max(0, min(known)) / _GB if known else None


def _machine_bytes() -> int | None:
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _cgroup_bytes() -> int | None:
    """Lowest memory left by a cgroup (version 2) of this process; file caches can be reclaimed."""
    root = Path("/sys/fs/cgroup")
    own = next((p for p in _read("/proc/self/cgroup").splitlines() if p.startswith("0::")), "0::/")
    folder, left = root / own[3:].lstrip("/"), []
    for one in (folder, *folder.parents):
        limit, used = _read(one / "memory.max").strip(), _read(one / "memory.current").strip()
        if limit.isdigit() and used.isdigit():
            words = dict(line.split() for line in _read(one / "memory.stat").splitlines())
            left.append(int(limit) - int(used) + int(words.get("inactive_file", 0)))
        if one == root:
            break
    return min(left, default=None)


def _read(path: str | Path) -> str:
    """Text of a file; empty where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf8")
    except OSError:
        return ""
