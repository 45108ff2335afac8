"""Several processes, one a device, as torchrun starts them."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist

from stn3d.errors import InputError


def init_process_group() -> torch.device:
    """Join the other processes, by NCCL where there is CUDA and by gloo on the CPU.

    Returns:
        This process's device.

    Raises:
        InputError: the process was not started by torchrun.
    """
    if "LOCAL_RANK" not in os.environ:
        raise InputError(
            "multi_gpu_train.yaml needs torchrun: torchrun --nproc_per_node=2 -m stn3d train ..."
        )
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo")
    return device


def destroy_process_group() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def broadcast_from_first(value: float) -> float:
    """The first process's value, on all: so that all decide alike."""
    if world_size() == 1:
        return value
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    shared = torch.tensor(value, dtype=torch.float64, device=device)
    dist.broadcast(shared, src=0)
    return float(shared)


def rank() -> int:
    """This process's number, 0 where it is alone."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
