"""Damaged files of all formats and random command lines: counts of what became of them.

    python -m scripts.bench fuzz run [--files 20000] [--commands 2000] [--seed 0]

Every case is drawn by its seed, name and number and runs in a child process with a memory limit. A
run continues after the formats and commands that are stored; ``--names nrrd,register`` measures
these alone, again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.bench import pages
from scripts.bench.machine import machine
from scripts.bench.options import RunOptions, command_line, option
from scripts.bench.store import Row, Store, read
from scripts.fuzz.cases import BAD, GOOD
from scripts.fuzz.commands import COMMANDS
from scripts.fuzz.samples import all_samples
from scripts.fuzz.supervisor import run_cases

ABOUT = """\
Files are damaged in their bytes, words, JSON nodes or compressed content, and read with the
function that the commands use. Command lines are valid ones with up to three changes: options with
absurd values, damaged, missing or impossible files. `read` and `refused` (one sentence, exit code
2) are right. `traceback`, `crash` (a signal), `hang` (over 20 s of processor time, or 90 s of
silence), `memory` (over 4 GB in the process itself; that of SimpleITK has its own limit; no file is
above 1 MB) and `left over` (files after a refusal) are
failures."""
KEYS = ("kind", "name")
FEW = {"train": 40, "register": 300, "series": 200, "cohort": 100, "template": 60, "segment": 60}
"""Of 2000 command lines; these take seconds each."""


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    files: int = option(20_000, "damaged files, of all formats together")
    commands: int = option(2_000, "command lines, of all commands together")
    seed: int = option(0, "seed of all cases")
    names: str = option("", "formats and commands to measure again, separated by commas")


def run(options: Options) -> None:
    """Measure and report."""
    conditions = {"machine": machine(), "seed": options.seed}
    command = command_line("fuzz", options)
    store = Store(options.out, "fuzz", KEYS, conditions, command=command)
    wanted = options.names.split(",") if options.names else []
    rows = [row for row in _planned(options) if not wanted or row["name"] in wanted]
    store.measure(rows, lambda row: _measured(row, options.seed), again=bool(wanted))
    report(options.out)


def _planned(options: Options) -> list[Row]:
    formats = list(dict.fromkeys(one.format for one in all_samples()))
    each = -(-options.files // len(formats))
    rows = [{"kind": "files", "name": name, "cases": each} for name in formats]
    few = {name: count * options.commands // 2000 for name, count in FEW.items()}
    many = [name for name in COMMANDS if name not in few]
    each = -(-(options.commands - sum(few.values())) // len(many))
    counts = few | dict.fromkeys(many, each)
    return [*rows, *({"kind": "commands", "name": n, "cases": counts[n]} for n in COMMANDS)]


def _measured(row: Row, seed: int) -> Row:
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    longest_s = peak_mb = 0.0
    for found in run_cases([row["name"]], 0, row["cases"], seed):
        counts[found.outcome] += 1
        longest_s, peak_mb = max(longest_s, found.cpu_s), max(peak_mb, found.peak_mb)
        if found.outcome in BAD and len(examples) < 10:
            examples[str(found.number)] = f"{found.outcome}: {found.detail}"
    numbers: dict[str, Any] = {name: counts[name] for name in (*GOOD, *BAD)}
    return numbers | {"longest_s": longest_s, "peak_mb": peak_mb, "examples": examples}


def report(folder: Path) -> None:
    """Write README.md from the stored results."""
    results = read(folder)
    lines = ["# Damaged files and random command lines", "", *pages.command(results), ABOUT, ""]
    for kind, title in (("files", "Files"), ("commands", "Command lines")):
        rows = [row for row in results.done if row["kind"] == kind]
        lines += [f"## {title}", "", *_table(rows), ""]
    lines += [
        f"- {row['name']} {number}: {text}"
        for row in results.done
        for number, text in row["examples"].items()
    ]
    pages.write_page(folder, [*lines, "", *pages.conditions(results)])


def _table(rows: list[Row]) -> list[str]:
    columns = ("cases", *GOOD, *BAD)
    total = {name: sum(row[name] for row in rows) for name in columns}
    total |= {"name": "all", **{k: max((r[k] for r in rows), default=0.0) for k in _LARGEST}}
    cells = [
        [str(row["name"]), *(str(row[name]) for name in columns), f"{row['longest_s']:.1f}",
         f"{row['peak_mb']:.0f}"]
        for row in (*rows, total)
    ]  # fmt: skip
    return pages.table([["", *columns, "longest, CPU s", "peak memory, MB"], *cells])


_LARGEST = ("longest_s", "peak_mb")
