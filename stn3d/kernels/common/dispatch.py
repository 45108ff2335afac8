"""Selection of an operation's implementation: numba kernels on the CPU, or plain torch."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor


def implementation(operation: str, *tensors: Tensor | None, when: bool = True) -> Any:
    """The module that computes an operation: its ``cpu`` or its ``reference``.

    Both define the operation's functions by the same names and the same positional parameters.
    A module is imported when it is first selected, so plain torch needs no numba.

    Args:
        operation: the operation's package.
        tensors: inputs that the numba kernels must support; None is ignored.
        when: an additional requirement of ``cpu``.
    """
    name = "cpu" if when and supported(*tensors) else "reference"
    return import_module(f"{operation}.{name}")


def supported(*tensors: Tensor | None) -> bool:
    """Whether the numba kernels support these tensors; their voxel indices have 31 bits."""
    return all(
        t is None
        or (
            t.device.type == "cpu"
            and t.dtype in (torch.float32, torch.float64)
            and t.shape[2:].numel() < 1 << 31
        )
        for t in tensors
    )


def needs_gradient(*tensors: Tensor | None) -> bool:
    """Whether autograd records operations on any of these tensors."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
