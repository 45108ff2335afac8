"""Runs cases one after another and reports each on a line of JSON.

    python -m scripts.fuzz.worker SEED FIRST LAST NAME [NAME ...] [--folder FOLDER]

A name is a format or a command. ``--folder`` keeps the files of the cases, to look into one:

    python -m scripts.fuzz.worker 0 17 18 nrrd --folder /tmp/case
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from scripts.fuzz.cases import Cases, Outcome

LIMIT_GB = 4.0  # memory that a case may take beyond that of the process


def main() -> None:
    """Run the cases named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--start", type=int, help="number to start the first name with")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    report = os.fdopen(os.dup(1), "w", buffering=1)
    if given.folder is None:
        _silence()
    with tempfile.TemporaryDirectory(prefix="stn3d-fuzz-") as scratch:
        folder = given.folder.resolve() if given.folder else Path(scratch)
        cases = Cases(given.seed, folder, keep=given.folder is not None)
        _prepare(cases, given.names)
        cases.folder.mkdir(parents=True, exist_ok=True)
        os.chdir(cases.folder)  # what is written with a relative path is removed too
        _limit_memory()
        for n, name in enumerate(given.names):
            first = given.first if n or given.start is None else given.start
            for number in range(first, given.last):
                print(json.dumps({"name": name, "number": number}), file=report)
                print(json.dumps(_measured(cases, name, number).plain()), file=report)
    report.flush()
    os._exit(0)


def _silence() -> None:
    """What libraries print must not mix with the reports."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _prepare(cases: Cases, names: list[str]) -> None:
    """Import and compile what all cases share, so that no case is charged for it."""
    import torch

    torch.set_num_threads(1)
    assert cases.samples
    if {"bundle", "checkpoint", "train"} & set(names):
        import stn3d.train  # noqa: F401
    if {"register", "cohort", "template"} & set(names):
        cases.run("register", -1)
    if {"explain", "report", "view"} & set(names):
        os.environ["BROWSER"] = "true"  # a program that does nothing
        assert cases.inputs.made.results
        assert cases.inputs.made.segmentation


def _limit_memory() -> None:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData"))
    limit = own * 1024 + int((LIMIT_GB + 1) * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _measured(cases: Cases, name: str, number: int) -> Outcome:
    rest_mb = _peak_mb(reset=True)
    before = time.process_time()
    found = cases.run(name, number)
    numbers: dict[str, Any] = {
        "cpu_s": round(time.process_time() - before, 2),
        "peak_mb": round(max(0.0, _peak_mb() - rest_mb), 1),
    }
    return Outcome(**{**found.plain(), **numbers})


def _peak_mb(reset: bool = False) -> float:
    """Peak resident memory of this process, since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
