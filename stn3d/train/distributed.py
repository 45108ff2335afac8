"""Distributed training: one process for each device, started by torchrun."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist

from stn3d.errors import InputError


def init_process_group() -> torch.device:
    """Join the process group, with NCCL on CUDA devices and gloo on the CPU.

    Returns:
        The device of this process.

    Raises:
        InputError: The process was not started by torchrun.
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
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def broadcast_from_first(value: float) -> float:
    """The value of the first process, so that all processes decide alike."""
    if world_size() == 1:
        return value
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    shared = torch.tensor(value, dtype=torch.float64, device=device)
    dist.broadcast(shared, src=0)
    return float(shared)


def rank() -> int:
    """Index of this process; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
