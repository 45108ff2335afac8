"""Faults of whole runs; scripts/bench/studies/cohort repeats these and others at random moments."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("distributed")

from scripts.bench.studies.cohort.faults import Cohort, findings


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    made = Cohort(tmp_path_factory.mktemp("cohort"), 3)
    made.make()
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", ["SIGKILL of the run and its workers", "disk full", "two runs in one folder"]
)
def test_a_fault_leaves_whole_files_and_a_rerun_completes(
    cohort: Cohort, tmp_path: Path, fault: str
) -> None:
    if fault == "disk full" and (os.geteuid() != 0 or shutil.which("mount") is None):
        pytest.skip("only root can mount a small file system")
    assert findings(cohort, fault, tmp_path / "out", seed=0) == []
