"""One measurement in a process of its own: takes a `Job` as JSON, prints a row as JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scripts.bench.machine import machine
from scripts.bench.paths import ROOT
from scripts.bench.studies.throughput.networks import CONTENDERS, Batch
from stn3d.data import collate
from stn3d.train import prepare_pair_batch
from stn3d.train.config import read_config

CONFIG = ROOT / "configs" / "train.yaml"
NUM_BATCHES = 2
UNCOUNTED = 2
Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What is measured; ``network`` is empty if only the machine is asked for."""

    network: str
    precision: str
    device: str
    shape: list[int]
    batch_size: int
    threads: int
    steps: int
    repeats: int


def where(job: Job) -> Row:
    """The conditions of a measurement: machine, grid, batch size and threads.

    Raises:
        SystemExit: there is no such device, or the grid is not three multiples of 32.
    """
    if job.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: torch sees no CUDA device here.")
    shape = job.shape
    if len(shape) != 3 or any(n % 32 for n in shape):
        raise SystemExit(f"--shape {job.shape}: give three multiples of 32, as VoxelMorph needs.")
    name = torch.cuda.get_device_name() if job.device == "cuda" else machine()
    place = {"machine": f"{name}, torch {torch.__version__}", "shape": shape}
    return place | {"batch_size": job.batch_size, "threads": job.threads}


def measured(job: Job) -> Row:
    """Train a network for some steps: its size, pairs per second and peak memory in GB (2**30)."""
    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    config = read_config([CONFIG])
    config["shape"] = job.shape
    config["dataset_dir"], config["shapes"], config["held_out"] = "", 2, 1
    device = torch.device(job.device)
    batches = [prepare_pair_batch(batch, device) for batch in synthetic(config, job.batch_size)]
    contender = CONTENDERS[job.network](config)
    contender.network.to(device).train()
    low = job.precision == "bfloat16"
    parameters = list(contender.network.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)

    def step(pair: Tensor, batch: Batch) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            output = contender.output(pair)
        contender.loss(output, batch).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    seconds = best_seconds(step, batches, job)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
    else:
        unit = 2**30 if sys.platform == "darwin" else 2**20
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    row = {"parameters": sum(p.numel() for p in parameters), "step_s": float(f"{seconds:.4g}")}
    return row | {
        "pairs_per_s": float(f"{job.batch_size / seconds:.4g}"),
        "peak_gb": round(peak, 2),
    }


def synthetic(config: Any, batch_size: int) -> list[Batch]:
    """Batches of the pairs that training would see; LNCC applies to all, as MONAI's does."""
    dataset = config.get_parsed_content("train::dataset")
    size = range(batch_size)
    batches = [collate([dataset[n * batch_size + i] for i in size]) for n in range(NUM_BATCHES)]
    return [
        {key: value for key, value in batch.items() if key != "same_contrast"} for batch in batches
    ]


def best_seconds(step: Callable[..., None], batches: list[tuple[Tensor, Batch]], job: Job) -> float:
    """Seconds per step, the best mean of all repeats."""
    wait = torch.cuda.synchronize if job.device == "cuda" else lambda: None
    for i in range(UNCOUNTED):
        step(*batches[i % len(batches)])
    found = []
    for _ in range(job.repeats):
        wait()
        begin = time.perf_counter()
        for i in range(job.steps):
            step(*batches[i % len(batches)])
        wait()
        found.append((time.perf_counter() - begin) / job.steps)
    return min(found)


if __name__ == "__main__":
    wanted = Job(**json.loads(sys.argv[1]))
    print(json.dumps(measured(wanted) if wanted.network else where(wanted)))
