"""The page of the cohort study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scripts.bench.pages import command, conditions, failures, number, table, write_page
from scripts.bench.store import Row, read

KEYS = ("part", "what")
_STEPS = (
    ("read_s", "reading the table, s"),
    ("missing_s", "looking for missing files, s"),
    ("run_s", "run: submission, locks, fingerprints, records, s"),
    ("tasks_per_s", "pairs per second on two cores"),
    ("client_cpu_s", "CPU time of the client, s"),
    ("scheduler_cpu_s", "CPU time of the scheduler, s"),
    ("client_peak_mb", "peak memory of the client, MB"),
    ("scheduler_peak_mb", "peak memory of the scheduler, MB"),
    ("summary_s", "summary.csv and index.html, s"),
    ("resume_s", "resuming: finding that all pairs are finished, s"),
)


def report(folder: Path) -> None:
    """Write README.md from the stored rows."""
    results = read(folder)
    rows = {part: [r for r in results.done if r["part"] == part] for part in _PARTS}
    lines = ["# Cohorts", "", *command(results), *conditions(results)]
    for part, write in _PARTS.items():
        if rows[part]:
            lines += [*write(rows[part]), ""]
    lines += failures(results.failed, "{what}, failed")
    if (folder / "plan.md").exists():
        lines += ["", "[What 100,000 pairs take](plan.md), from these measurements."]
    write_page(folder, lines)


def _throughput(rows: Sequence[Row]) -> list[str]:
    header = ["", "pairs", "wall time, s", "CPU time, s", "pairs an hour", "peak RAM, GB"]
    cells = [
        [
            row["what"],
            str(row["pairs"]),
            *(number(row.get(key)) for key in ("wall_s", "cpu_s", "pairs_per_hour", "peak_gb")),
        ]
        for row in rows
    ]
    return ["## Pairs an hour", "", *_ratio(rows), *table([header, *cells])]


def _ratio(rows: Sequence[Row]) -> list[str]:
    """The cohort beside the shell loop and greedy, in a sentence."""
    speed = {row["what"]: row["pairs_per_hour"] for row in rows}
    cohort = next((v for k, v in speed.items() if "2 workers" in k), None)
    others = {
        "a shell loop of stn3d register with two threads": "stn3d register",
        "greedy with two threads": "greedy",
    }
    said = [
        f"{cohort / v:.2f} times as many pairs an hour as {name}"
        for name, begin in others.items()
        for k, v in speed.items()
        if cohort and k.startswith(begin)
    ]
    return (
        [f"**A cohort of two one-thread workers registers {', and '.join(said)}.**", ""]
        if said
        else []
    )


def _killed(rows: Sequence[Row]) -> list[str]:
    lines = ["## Under SIGKILLs", ""]
    for row in rows:
        lines.append(
            f"{row['pairs']} pairs; {row['killed_workers']} workers and {row['killed_runs']} whole "
            f"runs were killed at random moments: {row['pairs_per_hour']:.4g} pairs an hour, exit "
            f"code {row['exit_code']}. Files that differ from those of the undisturbed cohort: "
            f"{row['different_files']}; temporary files left: {row['temporary_files']}."
        )
    return lines


def _overhead(rows: Sequence[Row]) -> list[str]:
    header = ["", *(f"{row['pairs']:,} pairs" for row in rows)]
    cells = [[name, *(number(row.get(key)) for row in rows)] for key, name in _STEPS]
    about = (
        "Registrations are skipped; all else is real. Scheduler, client and two workers share two "
        "cores."
    )
    return ["## Load of the scheduler", "", about, "", *table([header, *cells])]


def _faults(rows: Sequence[Row]) -> list[str]:
    header = ["fault", "repetitions", "findings"]
    cells = [
        [row["what"], str(row["repetitions"]), str(len(row["findings"])) or "0"] for row in rows
    ]
    about = (
        "Small cohorts. Each fault happens at a random moment; then the same command runs again. A "
        "finding would be a file that is not whole, a finished pair that is lost or registered "
        "again, an output that differs from the undisturbed run's, or a temporary file or lock "
        "that is left."
    )
    found = [f"- {row['what']}, {one}" for row in rows for one in row["findings"]]
    return ["## Faults", "", about, "", *table([header, *cells]), *([""] if found else []), *found]


_PARTS = {
    "throughput": _throughput,
    "killed": _killed,
    "overhead": _overhead,
    "faults": _faults,
}
