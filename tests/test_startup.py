"""The environment of torch is set before torch is imported, whatever is imported first."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys

import pytest

from stn3d.startup import starting

NAMES = ("THP_MEM_ALLOC_ENABLE", "GOMP_SPINCOUNT")


@pytest.mark.parametrize(
    "statement", ["import stn3d", "import stn3d.grid", "from stn3d import Grid"]
)
def test_the_environment_is_set_before_torch_is_imported(statement: str) -> None:
    program = (
        "import os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == 'torch': print([os.environ.get(n) for n in {NAMES!r}])\n"
        "sys.meta_path.insert(0, Watch())\n"
        f"{statement}\n"
        "import torch"
    )
    environment = {k: v for k, v in os.environ.items() if k not in (*NAMES, "OMP_WAIT_POLICY")}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        encoding="utf-8",
        env=environment,
        check=True,
    )
    assert ran.stdout.splitlines() == ["['1', '3000']"]


def test_what_is_set_already_is_kept() -> None:
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "THP_MEM_ALLOC_ENABLE": "0"}
    environment.pop("GOMP_SPINCOUNT", None)
    program = f"import stn3d, os; print([os.environ.get(n) for n in {NAMES!r}])"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        encoding="utf-8",
        env=environment,
        check=True,
    )
    assert ran.stdout.splitlines() == ["['0', None]"]


def test_the_garbage_collector_pauses_and_goes_on() -> None:
    assert gc.isenabled()
    with starting():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_freed_memory_is_kept_and_released() -> None:
    """Numpy's arrays of 24 MB come from the heap; without the setting each is unmapped at once."""
    code = (
        "import numpy as np, stn3d.startup as s\n"
        "from stn3d.memory.limit import resident_gb\n"
        "s.keep_freed_memory()\n"
        "before = resident_gb()\n"
        "arrays = [np.ones(3 << 20) for _ in range(10)]\n"
        "del arrays\n"
        "kept = resident_gb() - before\n"
        "s.release_freed_memory()\n"
        "print(kept, resident_gb() - before)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    kept, released = (float(word) for word in ran.stdout.split())
    if platform.libc_ver()[0] == "glibc":
        assert kept > 0.2
        assert released < 0.03
