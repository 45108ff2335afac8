"""The environment of torch is set before torch is imported, whatever is imported first."""

from __future__ import annotations

import gc
import os
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
