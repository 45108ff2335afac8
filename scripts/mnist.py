#!/usr/bin/env python3
"""Spatial transformers on distorted MNIST: trains and evaluates any row of the literature's tables.

    scripts/mnist.py list
    scripts/mnist.py train --work DIR [--rows "TC: CNN,R: *"] [--steps 12000] [--threads 2]
    scripts/mnist.py report --out docs/results/mnist [--work DIR]

A row (scripts/mnist_cases.py) is one network on one task of stn3d/synth/digits.py. `train` takes
the rows in turn, each in its own folder of DIR, and goes on where it was cut off; a row that is
done is kept. Training reads the first 55,000 digits of MNIST's training part, distorted anew at
every step; the last 5,000, under fixed distortions, are for choosing rates and widths. The weights
at the end count, no better ones are picked. The 10,000 test digits, under fixed distortions, are
read once, when a row is done. `report` writes OUT.json, the page OUT.md and the pictures.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from benchmark import processor
from mnist_cases import ROWS, Row, parts
from torch import Tensor, nn

from stn3d.data import DigitBatches, evaluation_batches
from stn3d.errors import InputError
from stn3d.io import whole
from stn3d.synth.digits import Digits, read_digits
from stn3d.train import (
    Checkpoints,
    ClipGradients,
    HistoryLogger,
    ReraiseInputErrors,
    SeedEachIteration,
    has_native_bfloat16,
    load_state,
    parameter_groups,
    prepare_output_dir,
    read_history,
    save_state,
    warmup_cosine,
)

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"
TRAINED_ON = 55_000
EPOCH = 500  # steps between checkpoints
SEED, SEEN_SEED, TEST_SEED = 0, 1, 2
RESULT, WEIGHTS = "result.json", "weights.safetensors"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the rows")
    train = commands.add_parser("train", help="train and test rows")
    train.add_argument("--work", type=Path, required=True, help="folder of the runs")
    train.add_argument("--rows", default="*", help="patterns of rows, with commas between")
    train.add_argument("--data", type=Path, default=DATA, help="folder of MNIST's .gz files")
    train.add_argument("--steps", type=int, default=12_000)
    train.add_argument("--batch-size", type=int, default=128)
    train.add_argument("--learning-rate", type=float, default=2e-3)
    train.add_argument("--localiser-share", type=float, default=1.0, help="of the rate")
    train.add_argument("--threads", type=int, default=2)
    train.add_argument("--device", default="cpu")
    report = commands.add_parser("report", help="write the page")
    report.add_argument("--out", type=Path, required=True, help="result files, without extension")
    report.add_argument("--work", type=Path, help="folder of the runs, for new results")
    report.add_argument("--data", type=Path, default=DATA, help="folder of MNIST's .gz files")
    args = parser.parse_args(arguments)
    try:
        {"list": show, "train": train_rows, "report": write_report}[args.command](args)
    except InputError as error:
        raise SystemExit(f"mnist.py: {error}") from None


def show(args: argparse.Namespace) -> None:
    """Print the rows."""
    print("\n".join(ROWS))


def chosen(patterns: str) -> dict[str, Row]:
    """The rows that fit one of some patterns.

    Raises:
        InputError: none fits one of them.
    """
    found: dict[str, Row] = {}
    for pattern in patterns.split(","):
        fitting = {name: ROWS[name] for name in fnmatch.filter(ROWS, pattern.strip())}
        if not fitting:
            raise InputError(f"no row is called {pattern.strip()!r}; see `mnist.py list`.")
        found |= fitting
    return found


def folder_of(work: Path, name: str) -> Path:
    """A row's own folder."""
    return work / name.replace(": ", "-").replace(" ", "-")


def train_rows(args: argparse.Namespace) -> None:
    """Train and test all rows that are not done."""
    torch.set_num_threads(args.threads)
    rows = chosen(args.rows)
    digits, test = read_digits(args.data, "train"), read_digits(args.data, "test")
    for name, row in rows.items():
        folder = prepare_output_dir(folder_of(args.work, name))
        if (folder / RESULT).exists():
            continue
        print(f"{name}", flush=True)
        network = trained(row, folder, digits, args)
        seconds = max(line["seconds"] for line in read_history(folder / "history.jsonl"))
        held_out = digits.subset(TRAINED_ON, len(digits))
        result = {
            "row": name,
            **parts(network),
            "steps": args.steps,
            "batch_size": args.batch_size,
            "learning_rate": args.learning_rate,
            "localiser_share": args.localiser_share,
            "threads": args.threads,
            "device": device_name(args.device),
            "seconds": round(seconds),
            "held_out_pct": error_pct(network, row, held_out, SEEN_SEED),
            "test_pct": error_pct(network, row, test, TEST_SEED),
        }
        save_state(folder / WEIGHTS, {"network": network}, {"row": name})
        with whole(folder / RESULT) as part:
            part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(result), flush=True)


def device_name(device: str) -> str:
    """What a device is called by its maker."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else processor()


def trained(row: Row, folder: Path, digits: Digits, args: argparse.Namespace) -> nn.Module:
    """The row's network after all steps; goes on from its last checkpoint."""
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
    from ignite.handlers import ProgressBar
    from monai.engines import SupervisedTrainer
    from monai.handlers import LrScheduleHandler, StatsHandler

    torch.manual_seed(SEED)
    device = torch.device(args.device)
    network = row.build().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(groups(network, args.learning_rate, args.localiser_share))
    factor = warmup_cosine(args.steps, warmup=args.steps // 20, floor=0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    batches = DigitBatches(digits.subset(0, TRAINED_ON), row.task, args.batch_size, SEED)
    epoch_length = min(args.steps, EPOCH)
    if args.steps % epoch_length:
        raise InputError(f"--steps {args.steps}: give a multiple of {epoch_length}.")
    objects = {"network": network, "optimizer": optimizer, "scheduler": scheduler}
    handlers: list[Any] = [
        ReraiseInputErrors(),
        SeedEachIteration(SEED),
        ClipGradients(network, 5.0),
        LrScheduleHandler(scheduler, print_lr=False, epoch_level=False),
        HistoryLogger(folder, logged, optimizer, interval=min(100, EPOCH), samples=args.batch_size),
        Checkpoints(folder, objects, batches, interval=epoch_length),
    ]
    if sys.stderr.isatty():
        handlers.append(ProgressBar())
    else:
        handlers.append(StatsHandler(iteration_log=False, epoch_log=False))
    trainer = SupervisedTrainer(
        device=device,
        max_epochs=args.steps // epoch_length,
        epoch_length=epoch_length,
        train_data_loader=batches,
        network=InBfloat16(network),
        optimizer=optimizer,
        loss_function=cross_entropy,
        train_handlers=handlers,
        decollate=False,
        optim_set_to_none=True,
    )
    trainer.run()
    return network


def groups(network: nn.Module, learning_rate: float, share: float) -> list[dict[str, Any]]:
    """Parameters with their rates; those of localisations have a share of the rate."""
    found = any("localisation" in name for name, _ in network.named_parameters())
    rates = {"localisation": share * learning_rate} if found else {}
    return parameter_groups(network, learning_rate, rates, 1e-4)


class InBfloat16(nn.Module):
    """A network under autocast, where the machine is fast at it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """The network's answer in 32 bits."""
        kind = image.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=has_native_bfloat16(image.device)):
            return self.network(image.contiguous(memory_format=torch.channels_last)).float()


def cross_entropy(answer: Tensor, label: Tensor) -> Tensor:
    """Of classes ``(B, [steps,] classes)`` and labels ``(B, [steps])``."""
    return F.cross_entropy(answer.flatten(0, -2), label.flatten())


def logged(output: Any) -> dict[str, float]:
    """What the history tells of a step."""
    wrong = output["pred"].argmax(-1) != output["label"]
    return {"loss": float(output["loss"].detach()), "error_pct": 100 * float(wrong.float().mean())}


@torch.no_grad()
def error_pct(network: nn.Module, row: Row, digits: Digits, seed: int) -> float:
    """Labels told wrong, in percent, each digit under one distortion."""
    network.eval()
    device = next(network.parameters()).device
    wrong = [
        network(batch["image"].to(device)).argmax(-1).cpu() != batch["label"]
        for batch in evaluation_batches(digits, row.task, 250, seed)
    ]
    return round(100 * float(torch.cat(wrong).float().mean()), 3)


def restored(row: Row, folder: Path) -> nn.Module:
    """A row's network with the weights that it ended with."""
    network = row.build()
    load_state(folder / WEIGHTS, {"network": network})
    return network.eval()


def write_report(args: argparse.Namespace) -> None:
    """Take in new results and write the page."""
    from mnist_report import report

    report(args.out, args.work, args.data)


if __name__ == "__main__":
    main()
