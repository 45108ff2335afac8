"""Pairs of brains an hour: as a cohort, as a shell loop, by greedy, and under SIGKILLs."""

from __future__ import annotations

import hashlib
import os
import random
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from scripts.bench.paths import ROOT, image_path
from scripts.bench.process import run_process
from scripts.bench.store import Row
from scripts.bench.tools import register_pair

PEOPLE = (
    "1000", "1001", "1002", "1006", "1007", "1008", "1009", "1010", "1011", "1012", "1013", "1014",
    "1015", "1017", "1036",
)  # fmt: skip
TEMPLATES = "1000", "1006"  # fixed images, each of many pairs
_TIMED = (".json", ".html", ".png", ".csv")
_MOST_BETWEEN_KILLS_S = 40
Pairs = list[tuple[str, str, str]]


def pairs_of_brains(count: int) -> Pairs:
    """Name, fixed and moving image of pairs: everyone to the first template, then to the second."""
    people = [one for one in PEOPLE if (image_folder() / f"{one}_t1.nii.gz").is_file()]
    names = [(fixed, moving) for fixed in TEMPLATES for moving in people if fixed != moving]
    paths = {person: str(image_path(f"brains/{person}_t1")) for person in people}
    return [(f"{m}_to_{f}", paths[f], paths[m]) for f, m in names[:count]]


def image_folder() -> Path:
    return image_path(f"brains/{TEMPLATES[0]}_t1").parent


def write_table(path: Path, pairs: Pairs) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(pair) for pair in pairs]
    path.write_text("\n".join(["name,fixed,moving", *lines]) + "\n", encoding="utf-8")
    return path


def cohort_command(table: Path, out: Path, workers: int, threads: int) -> list[str]:
    command = [sys.executable, "-m", "stn3d", "cohort", str(table), "--out", str(out), "--quiet"]
    return [*command, "--workers", str(workers), "--threads", str(threads)]


def as_cohort(pairs: Pairs, work: Path, workers: int, threads: int) -> Row:
    """A cohort from the first process to the summary; its results stay in the folder."""
    out = work / f"cohort-{workers}x{threads}"
    shutil.rmtree(out, ignore_errors=True)
    table = write_table(work / "pairs.csv", pairs)
    return _row(len(pairs), run_process(cohort_command(table, out, workers, threads), (0, 3)))


def as_shell_loop(pairs: Pairs, work: Path, threads: int) -> Row:
    """`stn3d register` on one pair after the other."""
    out, script = work / "loop", work / "loop.sh"
    shutil.rmtree(out, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    lines = [
        shlex.join(
            [sys.executable, "-m", "stn3d", "register", fixed, moving, "--out", str(out / name),
             "--threads", str(threads), "--quiet"]
        )
        for name, fixed, moving in pairs
    ]  # fmt: skip
    script.write_text("\n".join([*lines, "true"]) + "\n", encoding="utf-8")
    return _row(len(pairs), run_process(["bash", str(script)]))


def by_tool(tool: str, pairs: Pairs, work: Path, threads: int, python: str) -> Row:
    """Another tool on a few pairs, one after the other; conversions are not timed."""
    walls, cpus = [], []
    for name, fixed, moving in pairs:
        cost = register_pair(tool, (fixed, moving), work / tool / name, threads, python)
        walls.append(cost["wall_s"])
        cpus.append(cost["cpu_s"])
    found = _row(len(pairs), {"wall_s": sum(walls), "cpu_s": sum(cpus), "peak_gb": cost["peak_gb"]})
    return found | {"sd_s": round(statistics.stdev(walls), 1) if len(walls) > 1 else None}


def under_kills(pairs: Pairs, work: Path, seed: int) -> Row:
    """A cohort of two one-thread workers, which lose a worker every 20 s on average, and the whole
    run twice; compared with the undisturbed cohort in the folder."""
    moments, out = random.Random(seed), work / "killed"
    shutil.rmtree(out, ignore_errors=True)
    command = cohort_command(write_table(work / "pairs.csv", pairs), out, 2, 1)
    command += ["--retries", "9"]  # a pair may be hit more than twice
    begin, killed = time.monotonic(), {"workers": 0, "runs": 0}
    code = -signal.SIGKILL
    while code == -signal.SIGKILL:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        code = _disturbed(process, moments, killed)
    seconds = time.monotonic() - begin
    whole = work / "cohort-2x1"
    return _row(len(pairs), {"wall_s": round(seconds, 1)}) | {
        "killed_workers": killed["workers"],
        "killed_runs": killed["runs"],
        "exit_code": code,
        "different_files": len(different(whole, out)),
        "temporary_files": len(list(out.rglob(".part-*"))),
    }


def _disturbed(
    process: subprocess.Popen[bytes], moments: random.Random, killed: dict[str, int]
) -> int:
    """Kill workers of a run until it ends, or the run itself; its exit code."""
    while True:
        try:
            return process.wait(timeout=moments.uniform(1, _MOST_BETWEEN_KILLS_S))
        except subprocess.TimeoutExpired:
            pass
        if killed["runs"] < 2 and moments.random() < 0.2:
            process.kill()
            killed["runs"] += 1
            return process.wait()
        workers = [
            one
            for one in psutil.Process(process.pid).children(recursive=True)
            if "spawn_main" in " ".join(one.cmdline())
        ]
        if workers:
            moments.choice(workers).kill()
            killed["workers"] += 1


def different(one: Path, other: Path) -> list[str]:
    """Result files that differ or that only one folder has; those that hold times by name alone."""
    found = [_digests(folder) for folder in (one, other)]
    return sorted(n for n in {*found[0], *found[1]} if found[0].get(n) != found[1].get(n))


def _digests(folder: Path) -> dict[str, str]:
    files = [p for p in folder.rglob("*") if p.is_file() and ".cohort" not in p.parts]
    return {
        path.relative_to(folder).as_posix(): ""
        if path.suffix in _TIMED
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def _row(count: int, cost: dict[str, float]) -> Row:
    return {"pairs": count, **cost, "pairs_per_hour": round(3600 * count / cost["wall_s"], 1)}


def mean_folder_mb(folder: Path, pairs: Sequence[tuple[str, str, str]]) -> float:
    """Mean size of the results of a pair, in MB (2**20 bytes)."""
    sizes = [sum(p.stat().st_size for p in (folder / name).iterdir()) for name, _, _ in pairs]
    return round(statistics.mean(sizes) / 2**20, 2)
