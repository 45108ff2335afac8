"""Measurements of the memory floor study."""

from __future__ import annotations

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

from scripts.bench.machine import machine, versions
from scripts.bench.options import RunOptions, command_line, option
from scripts.bench.paths import SHARED
from scripts.bench.store import RESULTS_FILE, Results, write
from scripts.bench.studies.floor.costs import COSTS, Cost
from scripts.bench.studies.floor.page import REST, report
from stn3d import InputError, kernels, read_image
from stn3d.kernels.common.jit import run as run_kernel
from stn3d.preprocessing.intensity import scaled
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.initialisation.strategies import simple_candidates
from stn3d.registration.settings import PRESETS, settings_from

BRAINS = SHARED / "data" / "brains"


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    fixed: Path = option(BRAINS / "1000_t1.nii.gz", "fixed image")
    moving: Path = option(BRAINS / "1001_t1.nii.gz", "moving image")
    preset: str = option("default", "preset of the schedule", choices=list(PRESETS))
    repeats: int = option(3, "runs of the whole schedule")


def run(options: Options) -> None:
    """Measure everything, then report."""
    torch.set_num_threads(options.threads)
    runs, speeds, busy = [], [], os.getloadavg()[0]
    for _ in range(options.repeats):
        speeds.append((bandwidth_gb_per_s(), arithmetic_gflops()))
        try:
            runs.append(measured(options.fixed, options.moving, options.preset))
        except InputError as error:
            raise SystemExit(str(error)) from None
    head = {
        "machine": machine(),
        "versions": versions(),
        "command": command_line("floor", options),
        "threads": options.threads,
        "images": [options.fixed.name, options.moving.name],
        "preset": options.preset,
        "load_before": round(busy, 1),
        "repeats": options.repeats,
        "last_cache_mib": last_cache_bytes() / 2**20,
        "bandwidth_gb_per_s": round(max(gb for gb, _ in speeds), 1),
        "arithmetic_gflops": round(max(flops for _, flops in speeds), 1),
    }
    rows = [asdict(row) for row in least(runs)]
    write(options.out / RESULTS_FILE, Results("floor", head, rows))
    report(options.out)


# -- the machine ----------------------------------------------------------------------------------


@numba.njit(nogil=True, fastmath=True)
def triad(first: Any, last: Any, b: Any, c: Any, share: Any, a: Any) -> None:
    """``a = b + share c`` for rows ``first`` up to ``last``."""
    for i in range(first, last):
        for k in range(a.shape[1]):
            a[i, k] = b[i, k] + share * c[i, k]


def bandwidth_gb_per_s() -> float:
    """Bandwidth of the triad, two reads and a write for each number, in 1e9 bytes per second."""
    shape = (256, 4 * last_cache_bytes() // (256 * 4))
    a, b, c = (np.full(shape, value, np.float32) for value in (0, 1, 2))
    seconds = []
    for _ in range(21):  # the first one compiles
        begin = time.perf_counter()
        run_kernel(triad, shape[0], b, c, np.float32(0.5), a)
        seconds.append(time.perf_counter() - begin)
    return 3 * a.nbytes / min(seconds[1:]) / 1e9


@numba.njit(nogil=True, fastmath=True)
def polynomials(first: Any, last: Any, share: Any, shift: Any, a: Any) -> None:
    """Sixteen multiplications and additions for each number of a small array, a thousand times."""
    for i in range(first, last):
        for _ in range(1000):
            for k in range(a.shape[1]):
                v = a[i, k]
                for _ in range(16):
                    v = v * share + shift
                a[i, k] = v


def arithmetic_gflops() -> float:
    """Float32 operations per nanosecond, on vectors that stay in the first-level cache."""
    a, seconds = np.ones((64, 1024), np.float32), []
    for _ in range(11):
        begin = time.perf_counter()
        run_kernel(polynomials, len(a), np.float32(0.5), np.float32(0.5), a)
        seconds.append(time.perf_counter() - begin)
    return 1000 * 32 * a.size / min(seconds[1:]) / 1e9


def last_cache_bytes() -> int:
    """The size of the largest cache, 32 MiB where the system does not report it."""
    sizes = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    return max(
        (int(s.read_text(encoding="utf-8").strip().rstrip("K")) * 1024 for s in sizes),
        default=32 << 20,
    )


# -- measuring ------------------------------------------------------------------------------------


@dataclass
class Row:
    """All calls of one kernel on one level of one stage; ``bytes`` and ``seconds`` are sums."""

    stage: str
    level: str
    kernel: str
    calls: int = 0
    voxels: int = 0
    bytes: int = 0
    flops: float = 0.0
    seconds: float = 0.0


class Meter:
    """Times the kernels while stages call them."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, str], Row] = {}
        self.own_s = 0.0
        self.stage = ""

    def row(self, level: str, kernel: str) -> Row:
        """The current stage's row of a kernel on a level."""
        key = (self.stage, level, kernel)
        return self.rows.setdefault(key, Row(*key))

    def add(self, level: str, kernel: str, cost: Cost, seconds: float) -> None:
        """Count one more call."""
        row = self.row(level, kernel)
        row.calls, row.voxels = row.calls + 1, max(row.voxels, cost.voxels)
        row.bytes += 4 * cost.numbers
        row.flops += cost.flops * cost.voxels
        row.seconds += seconds

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Time every kernel of `COSTS` in this context."""
        with ExitStack() as stack:
            for name, cost_of in COSTS.items():
                watched = self._watched(name, getattr(kernels, name), cost_of)
                stack.enter_context(mock.patch.object(kernels, name, watched))
            yield

    def _watched(
        self, name: str, kernel: Callable[..., Any], cost_of: Callable[..., Cost]
    ) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            begin = time.perf_counter()
            result = kernel(*args)
            end = time.perf_counter()
            cost = cost_of(result, *args)
            self.add(*_named(name, cost, args), cost, end - begin)
            self.own_s += time.perf_counter() - end
            return result

        return call

    @contextmanager
    def of_stage(self, name: str) -> Iterator[None]:
        """Time a stage as a whole; its rest is what its kernels leave."""
        self.stage, self.own_s, begin = name, 0.0, time.perf_counter()
        yield
        wall = time.perf_counter() - begin - self.own_s
        kernels_s = sum(r.seconds for r in self.rows.values() if r.stage == name)
        self.row("all", REST).seconds = wall - kernels_s


def _named(name: str, cost: Cost, args: tuple[Any, ...]) -> tuple[str, str]:
    """Names of level and kernel in the tables."""
    preparing = name in ("resample", "box_sum")
    if name == "gaussian_smooth":
        preparing, name = len(args) < 3, f"gaussian_smooth, sigma {max(args[1]):.2f}"
    return "preparing" if preparing else "x".join(map(str, cost.shape)), name


def measured(fixed: Path, moving: Path, preset: str) -> list[Row]:
    """One run of all stages."""
    images = [read_image(path, role) for path, role in ((fixed, "fixed"), (moving, "moving"))]
    fixed_image, moving_image = (
        PreparedImage(scaled(image.values), image.grid) for image in images
    )
    pair = Pair(fixed_image, moving_image)
    transform, meter = simple_candidates(pair)[0].transform, Meter()
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
