#!/usr/bin/env python3
"""Time and score stn3d beside peers on the same pairs: whole processes, from files to files.

    scripts/benchmark.py PAIRS --out docs/results/brains [--tools "stn3d fast,greedy"]
        [--config weights.yaml] [--again]

PAIRS is a CSV file or a folder. The CSV has a header line and the columns name, fixed, moving and,
where known, fixed_labels, moving_labels, fixed_points, moving_points (CSV files of landmarks),
true_transform (an ITK file, fixed points to moving points) and split (such as tuned or reported:
means are given for each); paths are relative to the CSV. In a folder each subfolder is a pair:
fixed, moving and, where known, fixed_labels and moving_labels (.nii.gz, .nii, .mha or .nrrd),
fixed_points.csv, moving_points.csv, truth.h5, split.txt; any image may also be a text file
(fixed.txt, ...) that holds its path, relative to the subfolder.

Every tool registers every pair in turn, in a process of its own with the same number of threads;
wall seconds, CPU seconds and peak memory are the operating system's account of that process.
Each transform is then put into one format (scripts/peers.py, where the peers' settings stand) and
scored by `stn3d evaluate`, neither of them timed. A tool that is not installed is left out; the
peers may live in an environment of their own (--peer-python; see scripts/peers.py).

The tools "stn3d fast", "default" and "accurate" are the optimiser's presets; "stn3d network" finds
the transform by networks alone, "stn3d both" (or "both fast") lets the optimiser go on from there;
"stn3d nmi" (or "nmi fast") is the optimiser by mutual information; "stn3d by labels" is steered by
the labels too, so its Dice is no test. A name such as "stn3d --kind
rigid --metric nmi" asks for just these options of `stn3d register`, where {fixed_labels} and its
like stand for the pair's files, and "before" scores the identity: the pair as its headers have it.
A registration that stn3d itself calls failed (exit code 3) is scored like any other.
--config gives every run of stn3d further settings, such as the files of the networks' weights.

After every run OUT.json is rewritten; a run that was cut off goes on where it stood, and rows that
are there are kept unless --again. At the end OUT.md and OUT.svg are drawn from it.
"""

# No import of stn3d or numpy here: the peak memory of a child is never told below its parent's.
from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmark_report import FIGURES, PRESETS, write_report
from peers import PEERS

HERE = Path(__file__).resolve().parent
TOOLS = "stn3d fast,stn3d default,stn3d accurate,greedy,ants-syn,elastix,demons"
# What each asks of `stn3d register`.
STN3D = {f"stn3d {p}": ["--localiser", "optimiser", "--preset", p] for p in PRESETS}
STN3D |= {
    "stn3d nmi": ["--localiser", "optimiser", "--metric", "nmi"],
    "stn3d nmi fast": ["--localiser", "optimiser", "--metric", "nmi", "--preset", "fast"],
    "stn3d network": ["--localiser", "network"],
    "stn3d both": ["--localiser", "both"],
    "stn3d both fast": ["--localiser", "both", "--preset", "fast"],
    "stn3d by labels": [
        *("--fixed-labels", "{fixed_labels}", "--moving-labels", "{moving_labels}"),
        *("--label-weight", "1"),
    ],
}
BEFORE = "before"
IMAGES = ("fixed", "moving", "fixed_labels", "moving_labels")
POINTS = ("fixed_points", "moving_points")
FILES = (*IMAGES, *POINTS, "true_transform")
SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd", ".txt")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pairs", type=Path, help="CSV file or folder")
    parser.add_argument("--out", type=Path, required=True, help="result files, without extension")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tools", default=TOOLS, help=f"of {','.join([*STN3D, *PEERS])}")
    parser.add_argument("--peer-python", default=sys.executable, help="the Python that has peers")
    parser.add_argument("--config", type=Path, help="a config of stn3d register")
    parser.add_argument("--again", action="store_true", help="measure rows that are there too")
    parser.add_argument("--about", help="what the page says of the pairs and figures, at its head")
    args = parser.parse_args(arguments)
    if args.config and not args.config.is_file():
        raise SystemExit(f"--config: there is no file {args.config}; check the path.")
    pairs, versions = read_pairs(args.pairs), available(args.tools.split(","), args.peer_python)
    result = read_state(args.out, args.threads)
    result["splits"] |= {pair["name"]: pair.get("split", "") for pair in pairs}
    result |= {"about": args.about} if args.about else {}
    for pair in pairs:
        for tool in versions:
            if args.again or (pair["name"], tool) not in done(result):
                row = {"pair": pair["name"], "tool": tool, "version": versions[tool]}
                row |= run(tool, pair, args.threads, args.peer_python, args.config)
                print(json.dumps(row), flush=True)
                keep(result, row, args.out)
    write_report(args.out)


def read_pairs(path: Path) -> list[dict[str, str]]:
    """The pairs of a CSV or a folder, with absolute paths; what is not known is left out.

    Raises:
        SystemExit: there is no pair, or a pair's name or file is missing.
    """
    pairs = _pairs_of_folder(path) if path.is_dir() else _pairs_of_csv(path)
    if not pairs:
        raise SystemExit(f"{path} holds no pairs; see the head of scripts/benchmark.py.")
    names = [pair.get("name") for pair in pairs]
    for name, pair in zip(names, pairs, strict=True):
        if not name or names.count(name) > 1:
            raise SystemExit(f"{path}: name {name!r}; give each pair a name of its own.")
        for key in FILES:
            if key not in pair and key in ("fixed", "moving"):
                raise SystemExit(f"{path}: the pair {name} has no {key} image; add one.")
            if key in pair and not Path(pair[key]).is_file():
                raise SystemExit(f"{path}: {name}: {key}: no file {pair[key]}; mend the path.")
    return pairs


def _pairs_of_csv(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise SystemExit(f"{path} is neither a CSV file nor a folder; give one of them.")
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{k: cell for k, cell in row.items() if k and cell} for row in csv.DictReader(file)]
    for row in rows:
        paths = {k: v for k, v in row.items() if k in FILES}
        row |= {k: str((path.parent / v).resolve()) for k, v in paths.items()}
    return rows


def _pairs_of_folder(path: Path) -> list[dict[str, str]]:
    pairs = []
    for folder in sorted(p for p in path.iterdir() if p.is_dir()):
        pair = {"name": folder.name}
        for role in IMAGES:
            found = [p for suffix in SUFFIXES if (p := folder / (role + suffix)).is_file()]
            if found and found[0].suffix == ".txt":
                found = [folder / found[0].read_text(encoding="utf-8").strip()]
            pair |= {role: str(found[0].resolve())} if found else {}
        others = {"true_transform": "truth.h5"} | {key: f"{key}.csv" for key in POINTS}
        for key, name in others.items():
            pair |= {key: str((folder / name).resolve())} if (folder / name).is_file() else {}
        if (folder / "split.txt").is_file():
            pair["split"] = (folder / "split.txt").read_text(encoding="utf-8").strip()
        pairs.append(pair)
    return pairs


def available(tools: list[str], peer_python: str) -> dict[str, str]:
    """The tools that can run here and their versions; says in one line which cannot.

    Raises:
        SystemExit: a name that is no tool's, or no tool is left.
    """
    ask = [peer_python, str(HERE / "peers.py"), "--versions"]
    known = dict.fromkeys(STN3D, f"stn3d {version('stn3d')}")
    known |= json.loads(subprocess.run(ask, check=True, capture_output=True).stdout)
    known[BEFORE] = BEFORE
    here = {}
    for tool in (name.strip() for name in tools):
        known |= {tool: known["stn3d default"]} if tool.startswith("stn3d --") else {}
        if tool not in known:
            raise SystemExit(
                f"--tools: no tool is named {tool!r}; choose among {', '.join(known)}."
            )
        if known[tool]:
            here[tool] = known[tool]
        else:
            print(f"{tool} is left out: {PEERS[tool].package} is not installed.", file=sys.stderr)
    if not here:
        raise SystemExit("No tool is left to run; see the head of scripts/peers.py.")
    return here


def read_state(out: Path, threads: int) -> dict[str, Any]:
    """What was measured so far, or an empty result.

    Raises:
        SystemExit: it was measured on another machine or with other threads.
    """
    fresh = {"machine": machine(), "threads": threads, "splits": {}, "rows": []}
    path = out.with_suffix(".json")
    if not path.exists():
        return fresh
    state = json.loads(path.read_text(encoding="utf-8"))
    for key in ("machine", "threads"):
        if state.get(key) != fresh[key]:
            raise SystemExit(
                f"{path} was measured with {key} {state.get(key)!r}, now it is {fresh[key]!r}: "
                "times would not compare; give another --out."
            )
    return state


def done(result: dict[str, Any]) -> set[tuple[str, str]]:
    """Pairs and tools with figures; a run that failed is tried again."""
    return {(row["pair"], row["tool"]) for row in result["rows"] if "failed" not in row}


def keep(result: dict[str, Any], row: dict[str, Any], out: Path) -> None:
    """Put a row in its place and write OUT.json, whole or not at all."""
    rows = {(old["pair"], old["tool"]): old for old in result["rows"]}
    rows[row["pair"], row["tool"]] = row
    result["rows"] = list(rows.values())
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_suffix(".json.part")
    beside.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    beside.replace(out.with_suffix(".json"))


def run(
    tool: str, pair: dict[str, str], threads: int, peer_python: str, config: Path | None = None
) -> dict[str, Any]:
    """Register one pair with one tool and score its transform: figures and cost, or ``failed``."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        images = (pair["fixed"], pair["moving"])
        further = ["--config", str(config)] if config else []
        try:
            if tool == BEFORE:
                return scored(pair, None)
            cost = registered(tool, images, out, threads, peer_python, further, pair)
            return scored(pair, out / "transform.h5") | cost | verdict(out)
        except subprocess.CalledProcessError as error:
            return {"failed": reason(error)}
        except KeyError as error:
            return {"failed": f"the pair has no {error.args[0]}"}


def registered(
    tool: str,
    images: tuple[str, str],
    out: Path,
    threads: int,
    peer_python: str = sys.executable,
    further: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """Run a tool on a pair; its cost. Its transform is then ``out / "transform.h5"``.

    Args:
        tool: a peer, a name of `STN3D`, or ``stn3d`` and options of `stn3d register`.
        images: the fixed and the moving one.
        out: folder of the tool's files.
        threads: of the tool.
        peer_python: the Python that has the peers.
        further: options of `stn3d register`.
        files: of the pair, that names in braces stand for.

    Raises:
        KeyError: the pair has no such file.
        subprocess.CalledProcessError: it failed; ``stderr`` is what it printed.
    """
    if tool in PEERS:
        peer = [peer_python, str(HERE / "peers.py"), tool, *images, str(out)]
        cost = timed([*peer, str(threads)])
        timed([*peer, "--convert"])
        return cost
    command = [sys.executable, "-m", "stn3d", "register", *images, "--out", str(out)]
    asked = STN3D.get(tool) or shlex.split(tool)[1:]
    options = [option.format_map(files or {}) for option in asked]
    return timed([*command, "--threads", str(threads), *options, *further], allowed=(0, 3))


def scored(pair: dict[str, str], transform: Path | None) -> dict[str, Any]:
    """The figures of a transform, or of the identity, by `stn3d evaluate`.

    Raises:
        subprocess.CalledProcessError: it failed; ``stderr`` is what it printed.
    """
    command = [sys.executable, "-m", "stn3d", "evaluate", "--json"]
    command += ["--transform", str(transform)] if transform else []
    for key in FILES:
        command += [f"--{key.replace('_', '-')}", pair[key]] if key in pair else []
    told = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
    figures = json.loads(told.stdout)
    for key in ("error_mm", "tre_mm"):
        if isinstance(figures.get(key), dict):
            figures[key] = figures[key]["mean"]
    return {key: figures[key] for key in FIGURES if key in figures}


def verdict(out: Path) -> dict[str, str]:
    """What stn3d itself says of its outcome; nothing of a peer's."""
    path = out / "metrics.json"
    return {"verdict": json.loads(path.read_text())["verdict"]["word"]} if path.exists() else {}


def timed(command: list[str], allowed: Sequence[int] = (0,)) -> dict[str, float]:
    """Run a command to its end; its wall and CPU seconds and peak memory in GB (2**30 bytes).

    Args:
        command: with its arguments.
        allowed: exit codes that are no failure.

    Raises:
        subprocess.CalledProcessError: it failed; ``stderr`` is what it printed.
    """
    with tempfile.TemporaryFile() as log:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in allowed:
            log.seek(0)
            text = log.read().decode(errors="replace")
            raise subprocess.CalledProcessError(process.returncode, command, stderr=text)
    cpu = usage.ru_utime + usage.ru_stime
    peak = usage.ru_maxrss / (1024**3 if sys.platform == "darwin" else 1024**2)
    return {"wall_s": round(wall, 1), "cpu_s": round(cpu, 1), "peak_gb": round(peak, 2)}


def reason(error: subprocess.CalledProcessError) -> str:
    """The last line that a process printed, or the signal that ended it."""
    if error.returncode < 0:
        return f"ended by {signal.Signals(-error.returncode).name}"
    lines = [line.strip() for line in (error.stderr or "").splitlines() if line.strip()]
    return lines[-1] if lines else f"ended with code {error.returncode}"


def machine() -> str:
    """What this is measured on."""
    return f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def processor() -> str:
    """What the CPU calls itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
