"""The run of the throughput study: a process for each network and precision.

This process imports neither torch nor numpy: the children measure their own peak memory, and on
Linux that includes the memory of the process that started them (see `scripts.bench.process`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from scripts.bench.options import RunOptions, command_line, option
from scripts.bench.paths import ROOT
from scripts.bench.store import Row, Store
from scripts.bench.studies.throughput.networks import CONTENDERS
from scripts.bench.studies.throughput.page import KEYS, report

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    device: str = option("cpu", "device of torch", choices=("cpu", "cuda"))
    shape: str = option("64,64,64", "grid; multiples of 32")
    batch_size: int = option(1, "pairs per step")
    networks: str = option(",".join(CONTENDERS), "names from networks.py")
    precisions: str = option(",".join(PRECISIONS), "precisions")
    steps: int = option(5, "steps of a run")
    repeats: int = option(3, "runs")
    again: bool = option(False, "measure rows that have an outcome too")


def run(options: Options) -> None:
    """Measure what is not measured yet, then report."""
    names = chosen("--networks", options.networks, CONTENDERS)
    precisions = chosen("--precisions", options.precisions, PRECISIONS)
    here = child("", "float32", options)
    if "failed" in here:
        raise SystemExit(here["failed"])
    shared = {"machine": "see the machine of each row"}
    text = command_line("throughput", options)
    store = Store(options.out, "throughput", KEYS, shared, command=text)
    wanted = [here | {"network": n, "precision": p} for n in names for p in precisions]
    store.measure(
        wanted, lambda row: child(row["network"], row["precision"], options), options.again
    )
    report(options.out)


def chosen(name: str, text: str, known: Collection[str]) -> list[str]:
    """The names of a comma-separated list.

    Raises:
        SystemExit: one is not known.
    """
    listed = [word.strip() for word in text.split(",")]
    for word in listed:
        if word not in known:
            raise SystemExit(f"{name}: there is no {word!r}; choose from {', '.join(known)}.")
    return listed


def child(network: str, precision: str, options: Options) -> Row:
    """The JSON that a process of its own prints; ``failed`` with the reason where it fails."""
    job: dict[str, Any] = {"network": network, "precision": precision, "device": options.device}
    job |= {"shape": [int(n) for n in options.shape.split(",")], "batch_size": options.batch_size}
    job |= {key: getattr(options, key) for key in ("threads", "steps", "repeats")}
    module = "scripts.bench.studies.throughput.child"
    command = [sys.executable, "-m", module, json.dumps(job)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"failed": lines[-1] if lines else f"ended with exit code {done.returncode}"}
    found: Row = json.loads(done.stdout.splitlines()[-1])
    return found
