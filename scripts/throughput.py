#!/usr/bin/env python3
"""Training throughput of stn3d's networks beside MONAI's, on the same pairs of the same grid.

    scripts/throughput.py --out docs/results/throughput [--device cuda] [--shape 64,64,64]
        [--batch-size 1] [--threads 2] [--networks LocalNet,VoxelMorph] [--again]

A step is forward, loss, backward, clipping and AdamW, as in training; a figure is the best of
--repeats runs of --steps steps, after two that are not counted. Synthetic pairs of random shapes
are made beforehand and lie on the device. Networks and losses: scripts/throughput_cases.py.
bfloat16 is torch's autocast around the network.

Each network is measured in a process of its own. Peak memory is what torch allocated on CUDA, and
all that the process took on the CPU. After every figure OUT.json is rewritten; figures that are
there are kept unless --again, also those of other machines and grids; at the end OUT.md is written.
"""

# No import of torch here: the peak memory of a child is never told below its parent's.
from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import machine
from pages import table
from scaling import write
from throughput_cases import CONTENDERS

if TYPE_CHECKING:
    from throughput_cases import Batch
    from torch import Tensor

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "train.yaml"
PRECISIONS = ("float32", "bfloat16")
NUM_BATCHES = 2
UNCOUNTED = 2
WHERE = ("machine", "shape", "batch_size", "threads")  # what figures must share to compare
Row = dict[str, Any]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="result files, without extension")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--shape", default="64,64,64", help="of the grid; multiples of 32")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--networks", default=",".join(CONTENDERS))
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="measure what is there too")
    parser.add_argument("--child", choices=("where", *CONTENDERS), help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.child:
        found = where(args) if args.child == "where" else measured(args.child, args)
        print(json.dumps(found))
        return
    wanted = chosen("--networks", args.networks, CONTENDERS)
    precisions = chosen("--precisions", args.precisions, PRECISIONS)
    path = args.out.with_suffix(".json")
    rows: list[Row] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    here = child("where", "float32", args)
    if "failed" in here:
        raise SystemExit(here["failed"])
    for name in wanted:
        for precision in precisions:
            place = {**here, "network": name, "precision": precision}
            old = [row for row in rows if place.items() <= row.items()]
            if args.again or not old or "failed" in old[0]:
                row = place | child(name, precision, args)
                print(json.dumps(row), flush=True)
                rows = [row for row in rows if row not in old] + [row]
                write(path, json.dumps(rows, indent=1) + "\n")
    write(args.out.with_suffix(".md"), markdown(rows))


def chosen(option: str, names: str, known: Any) -> list[str]:
    """The names of a list.

    Raises:
        SystemExit: one is not known.
    """
    listed = [name.strip() for name in names.split(",")]
    for name in listed:
        if name not in known:
            raise SystemExit(f"{option}: there is no {name!r}; choose among {', '.join(known)}.")
    return listed


def child(what: str, precision: str, args: argparse.Namespace) -> Row:
    """What a process of its own prints as JSON; ``failed`` with the reason where it fails."""
    keys = ("out", "device", "shape", "batch_size", "threads", "steps", "repeats")
    options = [f"--{key.replace('_', '-')}={getattr(args, key)}" for key in keys]
    command = [sys.executable, __file__, *options, "--child", what, "--precisions", precision]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"failed": lines[-1] if lines else f"ended with code {done.returncode}"}
    found: Row = json.loads(done.stdout.splitlines()[-1])
    return found


def where(args: argparse.Namespace) -> Row:
    """On what is measured: machine, grid, batch and threads.

    Raises:
        SystemExit: there is no such device, or the grid has not three axes.
    """
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: torch sees no CUDA device here.")
    shape = [int(n) for n in args.shape.split(",")]
    if len(shape) != 3 or any(n % 32 for n in shape):
        raise SystemExit(f"--shape {args.shape}: give three multiples of 32, as VoxelMorph needs.")
    name = torch.cuda.get_device_name() if args.device == "cuda" else machine()
    place = {"machine": f"{name}, torch {torch.__version__}", "shape": shape}
    return place | {"batch_size": args.batch_size, "threads": args.threads}


def measured(name: str, args: argparse.Namespace) -> Row:
    """Train a network for some steps: its size, pairs a second and peak memory in GB (2**30)."""
    import torch

    from stn3d.train import prepare_pair_batch
    from stn3d.train.config import read_config

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    config = read_config([CONFIG])
    config["shape"] = [int(n) for n in args.shape.split(",")]
    config["dataset_dir"], config["shapes"], config["held_out"] = "", 2, 1
    device = torch.device(args.device)
    batches = [prepare_pair_batch(batch, device) for batch in synthetic(config, args.batch_size)]
    contender = CONTENDERS[name](config)
    contender.network.to(device).train()
    low = args.precisions == "bfloat16"
    parameters = list(contender.network.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)

    def step(pair: Tensor, batch: Batch) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            answer = contender.answer(pair)
        contender.loss(answer, batch).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    seconds = best_seconds(step, batches, args)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
    else:
        unit = 2**30 if sys.platform == "darwin" else 2**20
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    row = {"parameters": sum(p.numel() for p in parameters), "step_s": float(f"{seconds:.4g}")}
    return row | {
        "pairs_per_s": float(f"{args.batch_size / seconds:.4g}"),
        "peak_gb": round(peak, 2),
    }


def synthetic(config: Any, batch_size: int) -> list[Batch]:
    """Batches of the pairs that training would see; all count as of one contrast for LNCC, since
    MONAI's does not ask."""
    from stn3d.data import collate

    dataset = config.get_parsed_content("train::dataset")
    size = range(batch_size)
    batches = [collate([dataset[n * batch_size + i] for i in size]) for n in range(NUM_BATCHES)]
    return [
        {key: value for key, value in batch.items() if key != "same_contrast"} for batch in batches
    ]


def best_seconds(
    step: Callable[..., None], batches: list[tuple[Tensor, Batch]], args: argparse.Namespace
) -> float:
    """Seconds of a step, the best mean among the repeats."""
    import torch

    wait = torch.cuda.synchronize if args.device == "cuda" else lambda: None
    for i in range(UNCOUNTED):
        step(*batches[i % len(batches)])
    found = []
    for _ in range(args.repeats):
        wait()
        begin = time.perf_counter()
        for i in range(args.steps):
            step(*batches[i % len(batches)])
        wait()
        found.append((time.perf_counter() - begin) / args.steps)
    return min(found)


def markdown(rows: list[Row]) -> str:
    """A table for each machine, grid and batch."""
    lines = ["# Training throughput", ""]
    lines += [
        "Forward, loss, backward, clipping and AdamW on synthetic pairs made beforehand; what is "
        "trained how, and how peak memory is counted: scripts/throughput.py.",
        "",
    ]
    places: dict[str, list[Row]] = {}
    for row in rows:
        places.setdefault(json.dumps([row[key] for key in WHERE]), []).append(row)
    for place, mine in places.items():
        name, shape, batch_size, threads = json.loads(place)
        lines += [f"## {name}", ""]
        size = " x ".join(map(str, shape))
        lines += [f"Voxels: {size}; pairs a step: {batch_size}; CPU threads: {threads}.", ""]
        lines += [*table(figures([row for row in mine if "failed" not in row])), ""]
        failed = [row for row in mine if "failed" in row]
        lines += [f"- {r['network']}, {r['precision']}, failed: {r['failed']}" for r in failed]
        lines += [""] if failed else []
    return "\n".join(lines).rstrip() + "\n"


def figures(rows: list[Row]) -> list[list[str]]:
    """One line for each network and precision; the first is the head."""
    lines = [["network", "precision", "parameters", "pairs a second", "s a step", "peak GB"]]
    for row in rows:
        cells = [f"{row['parameters']:,}", *(f"{row[k]:.3g}" for k in ("pairs_per_s", "step_s"))]
        lines.append([row["network"], row["precision"], *cells, f"{row['peak_gb']:.2f}"])
    return lines


if __name__ == "__main__":
    main()
