#!/usr/bin/env python3
"""The memory floor of a registration: the time its loops would take if memory alone set it.

    scripts/floor.py FIXED MOVING --out docs/results/floor [--threads 2] [--repeats 3]

Runs the stages of a preset on a pair of images and, for every level and every loop of
`stn3d.kernels` that they call, sets the seconds that it took beside the seconds that its bytes need
at the machine's bandwidth. Bytes are counted as STREAM does (McCalpin 1995), and always from below:

* every voxel of every input once, every voxel of every output once, 4 bytes each, at the voxels of
  the loop's region alone; that a line of memory is read before it is written is not counted;
* an image that is read between its voxels counts once, and no voxel more than the region has;
* halos (the neighbours that windows and filters read beyond the region) are not counted;
* a velocity that a step changes counts twice, read and written;
* what makes a level (its images on a coarser grid, where they have texture) is named "preparing";
* all else that a stage does is one row, "rest": its whole time less the loops', and no bytes. It
  makes the weights, regions and scratch.

The bandwidth is the best of twenty runs of STREAM's triad, a = b + s c, before each repeat, by
numba on the package's own threads, on arrays four times the size of the last cache. What small
levels read mostly lies in the caches. Seconds are the least of the repeats, row by row; the first
one also loads or compiles the loops, so a single one tells too much.

Writes OUT.json and OUT.md (scripts/floor_report.py).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numba
import numpy as np
import torch
from benchmark import machine
from floor_costs import COSTS, Cost
from floor_report import REST, write_report
from stn3d.initialise import initial_candidates
from stn3d.intensity import scaled
from stn3d.pair import Pair, Scan
from stn3d.settings import PRESETS, settings_from

from stn3d import kernels
from stn3d.errors import InputError
from stn3d.io import read_image
from stn3d.kernels.common.jit import run

BRAINS = Path(__file__).resolve().parents[2] / "shared" / "data" / "brains"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("fixed", nargs="?", default=str(BRAINS / "1000_t1.nii.gz"))
    parser.add_argument("moving", nargs="?", default=str(BRAINS / "1001_t1.nii.gz"))
    parser.add_argument("--out", type=Path, required=True, help="result files, without extension")
    parser.add_argument("--preset", choices=list(PRESETS), default="default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="of the whole schedule")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    runs, speeds, busy = [], [], os.getloadavg()[0]
    for _ in range(args.repeats):
        speeds.append((bandwidth_gb_per_s(), arithmetic_gflops()))
        try:
            runs.append(measured(args.fixed, args.moving, args.preset))
        except InputError as error:
            raise SystemExit(str(error)) from None
    result = {
        "images": [Path(args.fixed).name, Path(args.moving).name],
        "preset": args.preset,
        "machine": machine(),
        "load_before": round(busy, 1),
        "threads": args.threads,
        "repeats": args.repeats,
        "last_cache_mib": last_cache_bytes() / 2**20,
        "bandwidth_gb_per_s": round(max(gb for gb, _ in speeds), 1),
        "arithmetic_gflops": round(max(flops for _, flops in speeds), 1),
        "rows": [asdict(row) for row in least(runs)],
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1) + "\n"
    args.out.with_suffix(".json").write_text(text, encoding="utf-8")
    write_report(args.out)


# -- the machine ----------------------------------------------------------------------------------


@numba.njit(nogil=True, fastmath=True)
def triad(first: Any, last: Any, b: Any, c: Any, share: Any, a: Any) -> None:
    """``a = b + share c`` for rows ``first`` up to ``last``."""
    for i in range(first, last):
        for k in range(a.shape[1]):
            a[i, k] = b[i, k] + share * c[i, k]


def bandwidth_gb_per_s() -> float:
    """What the triad moves in a second, two reads and a write for each number, in 1e9 bytes."""
    shape = (256, 4 * last_cache_bytes() // (256 * 4))
    a, b, c = (np.full(shape, value, np.float32) for value in (0, 1, 2))
    seconds = []
    for _ in range(21):  # the first one compiles
        begin = time.perf_counter()
        run(triad, shape[0], b, c, np.float32(0.5), a)
        seconds.append(time.perf_counter() - begin)
    return 3 * a.nbytes / min(seconds[1:]) / 1e9


@numba.njit(nogil=True, fastmath=True)
def polynomials(first: Any, last: Any, share: Any, shift: Any, a: Any) -> None:
    """Sixteen multiplications and additions for each number of a small array, often."""
    for i in range(first, last):
        for _ in range(1000):
            for k in range(a.shape[1]):
                v = a[i, k]
                for _ in range(16):
                    v = v * share + shift
                a[i, k] = v


def arithmetic_gflops() -> float:
    """Float32 operations in a nanosecond, on vectors that stay in the first cache."""
    a, seconds = np.ones((64, 1024), np.float32), []
    for _ in range(11):
        begin = time.perf_counter()
        run(polynomials, len(a), np.float32(0.5), np.float32(0.5), a)
        seconds.append(time.perf_counter() - begin)
    return 1000 * 32 * a.size / min(seconds[1:]) / 1e9


def last_cache_bytes() -> int:
    """The size of the largest cache, 32 MiB where the system does not tell."""
    sizes = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    return max((int(s.read_text().strip().rstrip("K")) * 1024 for s in sizes), default=32 << 20)


# -- measuring ------------------------------------------------------------------------------------


@dataclass
class Row:
    """All calls of one loop on one level of one stage; ``bytes`` and ``seconds`` are of all."""

    stage: str
    level: str
    kernel: str
    calls: int = 0
    voxels: int = 0
    bytes: int = 0
    flops: float = 0.0
    seconds: float = 0.0


class Meter:
    """Times the loops while stages call them."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, str], Row] = {}
        self.own_s = 0.0
        self.stage = ""

    def row(self, level: str, kernel: str) -> Row:
        """The current stage's row of a loop on a level."""
        key = (self.stage, level, kernel)
        return self.rows.setdefault(key, Row(*key))

    def add(self, level: str, kernel: str, cost: Cost, seconds: float) -> None:
        """One more call."""
        row = self.row(level, kernel)
        row.calls, row.voxels = row.calls + 1, max(row.voxels, cost.voxels)
        row.bytes += 4 * cost.numbers
        row.flops += cost.flops * cost.voxels
        row.seconds += seconds

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Every loop of `COSTS` is timed in here."""
        with ExitStack() as stack:
            for name, cost_of in COSTS.items():
                watched = self._watched(name, getattr(kernels, name), cost_of)
                stack.enter_context(mock.patch.object(kernels, name, watched))
            yield

    def _watched(
        self, name: str, loop: Callable[..., Any], cost_of: Callable[..., Cost]
    ) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            begin = time.perf_counter()
            result = loop(*args)
            end = time.perf_counter()
            cost = cost_of(result, *args)
            self.add(*_named(name, cost, args), cost, end - begin)
            self.own_s += time.perf_counter() - end
            return result

        return call

    @contextmanager
    def of_stage(self, name: str) -> Iterator[None]:
        """Times a stage as a whole; what its loops leave is its rest."""
        self.stage, self.own_s, begin = name, 0.0, time.perf_counter()
        yield
        wall = time.perf_counter() - begin - self.own_s
        loops = sum(r.seconds for r in self.rows.values() if r.stage == name)
        self.row("all", REST).seconds = wall - loops


def _named(name: str, cost: Cost, args: tuple[Any, ...]) -> tuple[str, str]:
    """The level and the loop as the tables call them."""
    preparing = name in ("resample", "box_sum")
    if name == "gaussian_smooth":
        preparing, name = len(args) < 3, f"gaussian_smooth, sigma {max(args[1]):.2f}"
    return "preparing" if preparing else "x".join(map(str, cost.shape)), name


def measured(fixed: str, moving: str, preset: str) -> list[Row]:
    """One run of all stages."""
    images = [read_image(path, role) for path, role in ((fixed, "fixed"), (moving, "moving"))]
    pair = Pair(*[Scan(scaled(image.values), image.grid) for image in images])
    transform, meter = initial_candidates(pair)[0].transform, Meter()
    for stage in settings_from({"preset": preset}).stages():
        with meter.of_stage(stage.name), meter.watching():
            transform = stage(pair, transform, lambda *_: None)
    return list(meter.rows.values())


def least(runs: list[list[Row]]) -> list[Row]:
    """The rows with the least seconds of all runs, which make the same calls."""
    rows = []
    for same in zip(*runs, strict=True):
        assert len({(row.stage, row.level, row.kernel, row.calls) for row in same}) == 1
        rows.append(min(same, key=lambda row: row.seconds))
    return rows


if __name__ == "__main__":
    main()
