"""Workers as Slurm jobs, by an `sbatch` that starts them on this machine; settings of jobs."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from stn3d.cohort import CohortPair, CohortRequest, SchedulerChoice, register_cohort
from stn3d.errors import InputError

pytest.importorskip("dask_jobqueue")

SBATCH = """#!/bin/sh
cp "$1" {folder}/job.sh
setsid bash {folder}/job.sh > {folder}/job.log 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
kill -- -"$1" 2> /dev/null || kill "$1"
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of the path with `sbatch` and `scancel`; the job's script is kept in it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH.format(folder=folder)), ("scancel", SCANCEL)):
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.mark.slow
def test_pairs_are_registered_by_slurm_jobs(
    slurm: Path, pairs: list[CohortPair], request_: CohortRequest, tmp_path: Path
) -> None:
    settings = {"queue": "long", "walltime": "02:00:00", "job_extra_directives": "--nice=7"}
    choice = SchedulerChoice("slurm", workers=1, slurm=settings)
    result = register_cohort(pairs[:2], tmp_path / "out", request_, scheduler=choice)
    assert result.counts()["good"] + result.counts()["check"] == 2
    script = (slurm / "job.sh").read_text(encoding="utf-8")
    for line in ("#SBATCH -p long", "#SBATCH -t 02:00:00", "#SBATCH --nice=7"):
        assert line in script
    assert "--resources memory_gb=0.60" in script
    assert "export OMP_NUM_THREADS=1" in script


def test_unknown_settings_of_slurm_are_refused() -> None:
    with pytest.raises(InputError, match="colour"):
        SchedulerChoice("slurm", slurm={"colour": "red"})
