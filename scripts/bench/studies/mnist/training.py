"""Training and evaluation of one row of the MNIST study."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.bench.machine import processor
from scripts.bench.studies.mnist.rows import NetworkRow
from stn3d import InputError
from stn3d.data import DigitBatches, evaluation_batches
from stn3d.synth.digits import Digits
from stn3d.train import (
    Checkpoints,
    ClipGradients,
    HistoryLogger,
    ReraiseInputErrors,
    SeedEachIteration,
    has_native_bfloat16,
    load_state,
    parameter_groups,
    warmup_cosine,
)

TRAINED_ON = 55_000
EPOCH = 500  # steps between checkpoints
SEED, HELD_OUT_SEED, TEST_SEED = 0, 1, 2
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Schedule:
    """How a row is trained.

    Args:
        steps: number of steps.
        batch_size: digits per step.
        learning_rate: the largest rate.
        localisation_rate: fraction of the rate for localisation networks.
        device: of torch.
    """

    steps: int
    batch_size: int
    learning_rate: float
    localisation_rate: float
    device: str


def device_name(device: str) -> str:
    """The model name of a device."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else processor()


def trained(row: NetworkRow, folder: Path, digits: Digits, schedule: Schedule) -> nn.Module:
    """The row's network after all steps; continues from the last checkpoint."""
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
    from ignite.handlers import ProgressBar
    from monai.engines import SupervisedTrainer
    from monai.handlers import LrScheduleHandler, StatsHandler

    torch.manual_seed(SEED)
    device = torch.device(schedule.device)
    network = row.build().to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        groups(network, schedule.learning_rate, schedule.localisation_rate)
    )
    factor = warmup_cosine(schedule.steps, warmup=schedule.steps // 20, floor=0.01)
    scheduler: Any = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    batches: Any = DigitBatches(digits.subset(0, TRAINED_ON), row.task, schedule.batch_size, SEED)
    epoch_length = min(schedule.steps, EPOCH)
    if schedule.steps % epoch_length:
        raise InputError(f"--steps {schedule.steps}: give a multiple of {epoch_length}.")
    objects = {"network": network, "optimizer": optimizer, "scheduler": scheduler}
    handlers: list[Any] = [
        ReraiseInputErrors(),
        SeedEachIteration(SEED),
        ClipGradients(network, 5.0),
        LrScheduleHandler(scheduler, print_lr=False, epoch_level=False),
        HistoryLogger(
            folder, logged, optimizer, interval=min(100, EPOCH), samples=schedule.batch_size
        ),
        Checkpoints(folder, objects, batches, interval=epoch_length),
    ]
    if sys.stderr.isatty():
        handlers.append(ProgressBar())
    else:
        handlers.append(StatsHandler(iteration_log=False, epoch_log=False))
    trainer = SupervisedTrainer(
        device=device,
        max_epochs=schedule.steps // epoch_length,
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
    """Parameters with their rates; localisations get a fraction of the rate."""
    found = any("localisation" in name for name, _ in network.named_parameters())
    rates = {"localisation": share * learning_rate} if found else {}
    return parameter_groups(network, learning_rate, rates, 1e-4)


class InBfloat16(nn.Module):
    """A network with bfloat16 autocast where that is fast on the machine."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """The logits in float32."""
        kind = image.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=has_native_bfloat16(image.device)):
            return self.network(image.contiguous(memory_format=torch.channels_last)).float()


def cross_entropy(answer: Tensor, label: Tensor) -> Tensor:
    """Cross entropy of logits ``(B, [steps,] classes)`` and labels ``(B, [steps])``."""
    return F.cross_entropy(answer.flatten(0, -2), label.flatten())


def logged(output: Any) -> dict[str, float]:
    """Entries of the history for one step."""
    wrong = output["pred"].argmax(-1) != output["label"]
    return {"loss": float(output["loss"].detach()), "error_pct": 100 * float(wrong.float().mean())}


@torch.no_grad()
def error_pct(network: nn.Module, row: NetworkRow, digits: Digits, seed: int) -> float:
    """Classification error in percent, each digit with one distortion."""
    network.eval()
    device = next(network.parameters()).device
    wrong = [
        network(batch["image"].to(device)).argmax(-1).cpu() != batch["label"]
        for batch in evaluation_batches(digits, row.task, 250, seed)
    ]
    return round(100 * float(torch.cat(wrong).float().mean()), 3)


def restored(row: NetworkRow, folder: Path) -> nn.Module:
    """A row's network with its final weights."""
    network = row.build()
    load_state(folder / WEIGHTS, {"network": network})
    return network.eval()
