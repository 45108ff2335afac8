"""The run of the cohort study: one part after the other."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scripts.bench.machine import machine
from scripts.bench.options import RunOptions, command_line, option
from scripts.bench.paths import ROOT
from scripts.bench.store import Row, Store
from scripts.bench.studies.cohort import throughput
from scripts.bench.studies.cohort.faults import FAULTS, Cohort, findings
from scripts.bench.studies.cohort.page import KEYS, report

PARTS = ("throughput", "killed", "overhead", "faults")


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    parts: str = option(",".join(PARTS), "parts of the study")
    pairs: int = option(20, "pairs of brains")
    greedy_pairs: int = option(3, "pairs that greedy registers")
    tools_python: str = option(sys.executable, "Python interpreter that has the other tools")
    tasks: int = option(20_000, "pairs whose registration is skipped")
    repetitions: int = option(10, "repetitions of each fault")
    fault_pairs: int = option(6, "pairs of a cohort that a fault happens to")
    work: Path = option(Path(tempfile.gettempdir()) / "stn3d-cohort", "folder of the results")
    again: bool = option(False, "measure rows that have an outcome too")


def run(options: Options) -> None:
    """Measure what is not measured yet, then report."""
    parts = [one.strip() for one in options.parts.split(",")]
    for one in parts:
        if one not in PARTS:
            raise SystemExit(f"--parts: there is no {one!r}; choose from {', '.join(PARTS)}.")
    conditions = {"machine": machine(), "threads": options.threads}
    store = Store(options.out, "cohort", KEYS, conditions, command=command_line("cohort", options))
    options.work.mkdir(parents=True, exist_ok=True)
    for part in parts:
        rows = {"throughput": _throughput, "killed": _killed, "overhead": _overhead}
        if part == "faults":
            _faults(options, store)
            continue
        for what, measure in rows[part](options).items():
            row = {"part": part, "what": what}
            if options.again or not store.has(row):
                store.add(row | measure())
    report(options.out)


def _throughput(options: Options) -> dict[str, Callable[[], Row]]:
    pairs, work = throughput.pairs_of_brains(options.pairs), options.work
    few = pairs[: options.greedy_pairs]
    greedy = partial(throughput.by_tool, "greedy", few, work, 2, options.tools_python)
    return {
        "stn3d cohort, 2 workers of 1 thread": lambda: (
            throughput.as_cohort(pairs, work, 2, 1)
            | {"mb_per_pair": throughput.mean_folder_mb(work / "cohort-2x1", pairs)}
        ),
        "stn3d register, 2 threads, shell loop": lambda: throughput.as_shell_loop(pairs, work, 2),
        "stn3d cohort, 1 worker of 2 threads": lambda: throughput.as_cohort(pairs, work, 1, 2),
        "greedy, 2 threads, shell loop": greedy,
    }


def _killed(options: Options) -> dict[str, Callable[[], Row]]:
    pairs, work = throughput.pairs_of_brains(options.pairs), options.work

    def measure() -> Row:
        if not (work / "cohort-2x1" / "summary.csv").exists():
            throughput.as_cohort(pairs, work, 2, 1)
        return throughput.under_kills(pairs, work, seed=0)

    return {"stn3d cohort, 2 workers of 1 thread, under SIGKILLs": measure}


def _overhead(options: Options) -> dict[str, Callable[[], Row]]:
    module = "scripts.bench.studies.cohort.overhead"

    def measure() -> Row:
        with tempfile.TemporaryDirectory(dir=options.work) as folder:
            command = [sys.executable, "-m", module, str(options.tasks), folder]
            done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT)
        if done.returncode:
            return {"failed": done.stderr.strip().splitlines()[-1]}
        found: Row = json.loads(done.stdout.splitlines()[-1])
        return found

    return {f"{options.tasks} pairs without registration": measure}


def _faults(options: Options, store: Store) -> None:
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        cohort = Cohort(Path(folder) / "cohort", options.fault_pairs)
        cohort.make()
        for fault in FAULTS:
            row: Row = {"part": "faults", "what": fault}
            if store.has(row) and not options.again:
                continue
            found = []
            for seed in range(options.repetitions):
                out = cohort.folder / f"{fault.replace(' ', '_')}-{seed}"
                found += [f"{seed}: {one}" for one in findings(cohort, fault, out, seed)]
            store.add(row | {"repetitions": options.repetitions, "findings": found})
