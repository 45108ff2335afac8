"""Memory that pairs need, and the workers that fit into a machine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import torch

from stn3d.cohort.pairs import CohortPair
from stn3d.cohort.request import CohortRequest
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io.geometry import grid_of
from stn3d.io.sources import open_source
from stn3d.memory.limit import allowed_gb
from stn3d.registration.memory import estimated_gb

_Size: TypeAlias = "tuple[tuple[int, ...], tuple[float, ...]]"
"""Shape and spacing in mm."""

_MARGIN = 1.15  # of the estimate: saving, masks, memory that the process keeps
_LEAST_GB = 0.6  # an idle worker with torch and numba
_SAMPLE = 64


def needed_gb(pair: CohortPair, request: CohortRequest) -> float:
    """Memory that the registration of a pair needs, from the headers of its images, in GB.

    An image that cannot be read needs none: its pair fails at once.
    """
    try:
        fixed, moving = (_size(pair.files[role]) for role in ("fixed", "moving"))
        return _needed_gb(fixed, moving, _Keyed(request))
    except (InputError, OSError, ValueError):
        return _LEAST_GB


@lru_cache(maxsize=64)
def _size(path: str) -> _Size:
    """Shape and spacing of an image, from its header; the estimate depends on nothing else."""
    stored = open_source(path, "image")
    grid = grid_of(stored.affine, stored.shape[: 2 if stored.planar else 3])
    return grid.shape, grid.spacing_mm


class _Keyed:
    """A request that is compared by its digest, as a key of a cache."""

    def __init__(self, request: CohortRequest) -> None:
        self.request = request

    def __hash__(self) -> int:
        return hash(self.request.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and self.request.digest == other.request.digest


@lru_cache(maxsize=1024)
def _needed_gb(fixed: _Size, moving: _Size, keyed: _Keyed) -> float:
    settings = keyed.request.settings
    grids = [Grid.of_spacing(shape, spacing_mm) for shape, spacing_mm in (fixed, moving)]
    needed = max(_LEAST_GB, _MARGIN * estimated_gb(grids[0], grids[1], settings))
    return needed if settings.max_memory is None else min(needed, settings.max_memory)


def sampled_need_gb(pairs: Sequence[CohortPair], request: CohortRequest) -> float:
    """The largest need of some pairs, spread over all of them."""
    step = max(1, len(pairs) // _SAMPLE)
    return max(needed_gb(pair, request) for pair in pairs[::step])


@dataclass(frozen=True)
class WorkerPlan:
    """The workers of a machine.

    Args:
        count: number of processes; each registers one pair at a time.
        threads: threads of each.
        memory_gb: memory that each may use.
    """

    count: int
    threads: int
    memory_gb: float


def local_workers(
    need_gb: float, threads: int | None, count: int | None, device: str = "cpu"
) -> WorkerPlan:
    """As many one-thread workers as cores and memory allow; cores that are left become threads.

    One-thread workers register most pairs an hour, because a registration with n threads takes
    more than 1/n of the time (docs/results/cohort).

    Args:
        need_gb: memory that a pair needs.
        threads: threads of each worker. Default: the cores divided by the workers.
        count: number of workers. Default: what fits.
        device: the device; a GPU is not shared by several workers.
    """
    cores, free_gb = available_cores(), allowed_gb(None)[0]
    fitting = cores if free_gb is None else max(1, int(free_gb / need_gb))
    most = 1 if device.startswith("cuda") else max(1, cores // (threads or 1))
    chosen = count or min(most, fitting)
    memory_gb = need_gb if free_gb is None else max(need_gb, free_gb / chosen)
    return WorkerPlan(chosen, threads or max(1, cores // chosen), memory_gb)


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def uses_cuda(device: str) -> bool:
    """Whether a device setting leads to a GPU on this machine."""
    return device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())


def unique_missing(pairs: Iterable[CohortPair]) -> dict[str, list[str]]:
    """Pairs with files that do not exist, and these files."""
    return {pair.name: missing for pair in pairs if (missing := pair.missing())}
