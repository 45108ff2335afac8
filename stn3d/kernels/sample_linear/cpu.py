"""Linear interpolation at arbitrary points by numba kernels, with exact gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stn3d.kernels.common.jit import run
from stn3d.kernels.common.tensors import Array, batches, volumes
from stn3d.kernels.sample_linear.cpu_kernels import (
    point_gradient_blocks,
    point_gradient_items,
    sample_blocks,
    sample_items,
    scatter_blocks,
    scatter_items,
)

_BLOCK = 256  # points per block


def sample_linear(image: Tensor, points_index: Tensor) -> Tensor:
    """Sample block by block, or item by item for large batches; differentiable once."""
    return _SampleLinear.apply(image, points_index)


class _SampleLinear(torch.autograd.Function):
    """Sampling with its gradients with respect to image and points."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, points_index: Tensor) -> Tensor:
        ctx.save_for_backward(image, points_index)
        return _sample(image, points_index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        image, points_index = ctx.saved_tensors
        by_image, by_points = ctx.needs_input_grad
        return (
            _image_gradient(image, points_index, gradient) if by_image else None,
            _point_gradient(image, points_index, gradient) if by_points else None,
        )


def _sample(image: Tensor, points_index: Tensor) -> Tensor:
    batch, points = max(len(image), len(points_index)), _points(points_index, image)
    out = image.new_empty(batch, image.shape[1], points.shape[1])
    if _by_items(batch):
        run(sample_items, batch, batches(image), points, _BLOCK, out.numpy())
        return out
    for b in range(batch):
        at = _item(points, b)
        run(sample_blocks, _blocks(at), volumes(_image(image, b)), at, _BLOCK, out[b].numpy())
    return out


def _point_gradient(image: Tensor, points_index: Tensor, gradient: Tensor) -> Tensor:
    """Gradient by the points ``(B, N, d)``, from the one by the values ``(B, C, N)``."""
    upstream, points = gradient.contiguous().numpy(), _points(points_index, image)
    out = np.empty((len(upstream), *points.shape[1:]), points.dtype)
    if _by_items(len(out)):
        run(point_gradient_items, len(out), batches(image), points, _BLOCK, upstream, out)
    else:
        for b, one in enumerate(upstream):
            at, source = _item(points, b), volumes(_image(image, b))
            run(point_gradient_blocks, _blocks(at), source, at, _BLOCK, one, out[b])
    return torch.from_numpy(out).to(points_index.dtype).sum_to_size(points_index.shape)


def _image_gradient(image: Tensor, points_index: Tensor, gradient: Tensor) -> Tensor:
    """Gradient by the image ``(B, C, *shape)``, from the one by the values ``(B, C, N)``."""
    out = torch.zeros_like(image, memory_format=torch.contiguous_format)
    upstream, points = gradient.contiguous().numpy(), _points(points_index, image)
    num_parts = -(-4 // image.shape[1])  # summed separately, independent of the threads
    if _by_items(len(image)):
        run(scatter_items, len(out), upstream, points, _BLOCK, num_parts, batches(out))
        return out
    for b, one in enumerate(upstream):
        target = volumes(_image(out, b))
        parts = np.zeros((len(target), num_parts, *target.shape[1:]), target.dtype)
        run(scatter_blocks, len(target) * num_parts, one, _item(points, b), _BLOCK, parts)
        for part in range(num_parts):
            target += parts[:, part]
    return out


def _by_items(batch: int) -> bool:
    """Whether threads process whole items of a batch rather than blocks of one item's points.

    This must not depend on the number of threads, since both may differ in the last digits.
    """
    return batch >= 16


def _points(points_index: Tensor, image: Tensor) -> Array:
    """The points ``(B, N, d)`` in their dtype or the image's, whichever is more precise."""
    dtype = torch.promote_types(points_index.dtype, image.dtype)
    return points_index.detach().to(dtype).contiguous().numpy()


def _item(points: Array, b: int) -> Array:
    """The points ``(N, d)`` of item b; a batch of one is broadcast."""
    return points[b % len(points)]


def _image(images: Tensor, b: int) -> Tensor:
    """Item b as a batch of one; a batch of one is broadcast."""
    return images[b : b + 1] if len(images) > 1 else images


def _blocks(points: Array) -> int:
    return -(-len(points) // _BLOCK)
