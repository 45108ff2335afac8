"""Distorted MNIST digits: the tasks of the original spatial transformer paper.

Jaderberg et al. 2015 (arXiv:1506.02025), section 4.1 and appendix A. Choices that the paper leaves
open are stated with each distortion. Every distortion is a function of its generator.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import Grid, homogeneous
from stn3d.synth.generator import SeededGenerator
from stn3d.transforms import (
    Affine,
    Chain,
    Projective,
    ThinPlateSpline,
    Transform,
    control_grid,
    rotation_matrix,
)
from stn3d.warp import warp_batch

Split = Literal["train", "test"]
_FILES = {"train": "train", "test": "t10k"}
_SIDE = 28


@dataclass(frozen=True, eq=False)
class Digits:
    """Images of digits and their labels.

    Args:
        images: ``(N, 28, 28)`` uint8, first row at the top.
        labels: ``(N,)`` integers from 0 to 9.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, start: int, stop: int) -> Digits:
        """The digits from index ``start`` to ``stop - 1``."""
        return Digits(self.images[start:stop], self.labels[start:stop])

    def take(self, index: Tensor) -> Tensor:
        """``(B, 1, 28, 28)`` images at indices, intensities from 0 to 1."""
        return self.images[index][:, None].float() / 255


def read_digits(folder: str | os.PathLike[str], split: Split) -> Digits:
    """Read the MNIST files, ``train-images-idx3-ubyte.gz`` and others.

    Args:
        folder: Folder of the files.
        split: ``train`` (60,000 images) or ``test`` (10,000).

    Raises:
        InputError: A file is missing or is not an IDX file of bytes.
    """
    images = _read_idx(Path(folder) / f"{_FILES[split]}-images-idx3-ubyte.gz")
    labels = _read_idx(Path(folder) / f"{_FILES[split]}-labels-idx1-ubyte.gz")
    if images.ndim != 3 or images.shape[1:] != (_SIDE, _SIDE) or labels.shape != images.shape[:1]:
        raise InputError(
            f"{folder} holds images {tuple(images.shape)} and labels {tuple(labels.shape)}, which "
            "is not MNIST; give the folder of its four .gz files."
        )
    return Digits(images, labels.long())


def _read_idx(path: Path) -> Tensor:
    """Read an IDX file: two zeros, the type (8: bytes), the number of axes, the sizes, the data."""
    try:
        data = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise InputError(
            f"{path} does not exist; give the folder of the MNIST .gz files."
        ) from None
    except (OSError, EOFError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise InputError(f"{path} is not an IDX file of bytes; give the original MNIST files.")
    start = 4 + 4 * data[3]
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    if len(data) != start + math.prod(shape):
        raise InputError(f"the size of {path} does not match the shape {shape} in its header.")
    return torch.frombuffer(bytearray(data[start:]), dtype=torch.uint8).reshape(shape)


# -- one digit on a canvas -------------------------------------------------------------------------

Distortion = Callable[[Digits, Tensor, SeededGenerator], tuple[Tensor, Tensor]]


def _between(rng: SeededGenerator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * rng.uniform_tensor(*shape)


def _warped(images: Tensor, digit_from_canvas: Transform, side: int) -> Tensor:
    """Digits warped onto a square canvas; coordinates are relative to the centres of both."""
    return warp_batch(images, _about_centre(_SIDE), digit_from_canvas, _about_centre(side))


def _about_centre(side: int) -> Grid:
    """A square pixel grid centred on the origin."""
    return Grid((side, side), homogeneous(torch.eye(2), torch.full((2,), -(side - 1) / 2)))


def _similarity(angle: Tensor, scale: Tensor, shift: Tensor) -> Affine:
    """Canvas-to-digit transforms of digits that are rotated and scaled, then translated."""
    linear = rotation_matrix(-angle[:, None]) / scale[:, None, None]
    back = -(linear @ shift[..., None])[..., 0]
    return Affine.from_matrix(homogeneous(linear, back).double())


def rotated(digits: Digits, index: Tensor, rng: SeededGenerator) -> tuple[Tensor, Tensor]:
    """R: rotated by up to 90 degrees; 28x28 pixels."""
    n = len(index)
    angle = _between(rng, -math.pi / 2, math.pi / 2, n)
    transform = _similarity(angle, torch.ones(n), torch.zeros(n, 2))
    return _warped(digits.take(index), transform, _SIDE), digits.labels[index]


def _rts(images: Tensor, rng: SeededGenerator, side: int = 42) -> Affine:
    n = len(images)
    angle = _between(rng, -math.pi / 4, math.pi / 4, n)
    scale = _between(rng, 0.7, 1.2, n)
    room = (side - _SIDE * scale).clamp(min=0) / 2
    return _similarity(angle, scale, room[:, None] * _between(rng, -1, 1, n, 2))


def rotated_scaled_translated(
    digits: Digits, index: Tensor, rng: SeededGenerator
) -> tuple[Tensor, Tensor]:
    """RTS: rotated by up to 45 degrees, scaled by 0.7 to 1.2, translated within 42x42 pixels."""
    images = digits.take(index)
    return _warped(images, _rts(images, rng), 42), digits.labels[index]


def projected(digits: Digits, index: Tensor, rng: SeededGenerator) -> tuple[Tensor, Tensor]:
    """P: scaled by 0.75 to 1, then corners displaced by normal noise of SD 5 pixels; 42x42 pixels.

    The noise is clipped at 5.5 pixels, so that corners keep their order. The size of the canvas is
    not given in the paper.
    """
    n = len(index)
    corners = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1]]).double() * (_SIDE / 2)
    moved = corners * _between(rng, 0.75, 1.0, n, 1, 1).double()
    moved = moved + (5 * rng.normal_tensor(n, 4, 2).double()).clamp(-5.5, 5.5)
    matrix = _homography(moved, corners.expand(n, 4, 2))
    images = _warped(digits.take(index), Projective.from_matrix(matrix), 42)
    return images, digits.labels[index]


def _homography(points: Tensor, targets: Tensor) -> Tensor:
    """``(B, 3, 3)`` from four points to their targets ``(B, 4, 2)`` (direct linear transform)."""
    x, y = points.unbind(-1)
    o, i = torch.zeros_like(x), torch.ones_like(x)
    rows = []
    for axis in range(2):
        t = targets[..., axis]
        first = [x, y, i, o, o, o] if axis == 0 else [o, o, o, x, y, i]
        rows.append(torch.stack([*first, -x * t, -y * t], dim=-1))
    system = torch.cat(rows, dim=1)
    answer = torch.linalg.solve(system, torch.cat(targets.unbind(-1), dim=1)[..., None])[..., 0]
    return torch.cat([answer, torch.ones_like(answer[:, :1])], dim=1).unflatten(1, (3, 3))


def elastic(digits: Digits, index: Tensor, rng: SeededGenerator) -> tuple[Tensor, Tensor]:
    """E: thin-plate spline, 16 control points displaced by normal noise of SD 1.5 pixels; 28x28."""
    images = digits.take(index)
    return _warped(images, _elastic(len(index), rng, _SIDE), _SIDE), digits.labels[index]


def _elastic(n: int, rng: SeededGenerator, side: int) -> ThinPlateSpline:
    controls = control_grid(_about_centre(side), 4).points_mm().reshape(-1, 2)
    return ThinPlateSpline(controls, controls + 1.5 * rng.normal_tensor(n, 16, 2).double())


def rotated_scaled_elastic(
    digits: Digits, index: Tensor, rng: SeededGenerator
) -> tuple[Tensor, Tensor]:
    """RTSE: E on the digit's own grid, then RTS; 42x42 pixels. Not in the paper; for cascades."""
    images = digits.take(index)
    rts = _rts(images, rng)
    both = Chain((rts, _elastic(len(index), rng, _SIDE)))
    return _warped(images, both, 42), digits.labels[index]


# -- canvases with more than a digit ---------------------------------------------------------------


def cluttered(digits: Digits, index: Tensor, rng: SeededGenerator) -> tuple[Tensor, Tensor]:
    """TC: translated within 60x60 pixels, among 6 crops of 8x8 pixels of other digits."""
    canvas = _clutter(digits, rng, len(index), 60, 6)
    corner = _corners(rng, len(index), 1, 60 - _SIDE)
    return _pasted(canvas, digits.take(index), corner), digits.labels[index]


def _corners(rng: SeededGenerator, n: int, count: int, top: int) -> Tensor:
    """``(n, count, 2)`` integers from 0 to ``top``."""
    return (rng.uniform_tensor(n, count, 2) * (top + 1)).long().clamp(max=top)


def _clutter(digits: Digits, rng: SeededGenerator, n: int, side: int, count: int) -> Tensor:
    """Canvases ``(n, 1, side, side)`` with 8x8 crops from the central part of random digits."""
    source = digits.take(
        (rng.uniform_tensor(n * count) * len(digits)).long().clamp(max=len(digits) - 1)
    )
    cut = 4 + _corners(rng, n * count, 1, 12)[:, 0]
    offsets = torch.arange(8)
    rows, columns = cut[:, :1] + offsets, cut[:, 1:] + offsets
    each = torch.arange(n * count)[:, None, None]
    pieces = source[:, 0][each, rows[:, :, None], columns[:, None]].reshape(n, count, 8, 8)
    return _pasted(torch.zeros(n, 1, side, side), pieces, _corners(rng, n, count, side - 8))


def _pasted(canvas: Tensor, pieces: Tensor, corner: Tensor) -> Tensor:
    """Pieces ``(n, count, h, w)`` pasted at corners ``(n, count, 2)`` by their maximum."""
    n, _, _, side = canvas.shape
    h, w = pieces.shape[2:]
    rows = corner[..., :1] + torch.arange(h)
    columns = corner[..., 1:] + torch.arange(w)
    at = (rows[..., :, None] * side + columns[..., None, :]).reshape(n, -1)
    flat = canvas.reshape(n, -1).scatter_reduce(1, at, pieces.reshape(n, -1), "amax")
    return flat.reshape(canvas.shape)


def addition(digits: Digits, index: Tensor, rng: SeededGenerator) -> tuple[Tensor, Tensor]:
    """Two digits on separate channels, each with its own RTS; the label is their sum."""
    other = (rng.uniform_tensor(len(index)) * len(digits)).long().clamp(max=len(digits) - 1)
    first, a = rotated_scaled_translated(digits, index, rng)
    second, b = rotated_scaled_translated(digits, other, rng)
    return torch.cat([first, second], dim=1), a + b


def same_or_not(digits: Digits, index: Tensor, rng: SeededGenerator) -> tuple[Tensor, Tensor]:
    """Two digits on two channels with one RTS; label 1 if they are equal. Not in the paper."""
    n = len(index)
    wanted = rng.uniform_tensor(n) < 0.5
    offset = (rng.uniform_tensor(n) * 9).long().clamp(max=8) + 1
    number = torch.where(wanted, digits.labels[index], (digits.labels[index] + offset) % 10)
    order = digits.labels.argsort(stable=True)
    counts = torch.bincount(digits.labels, minlength=10)
    first = counts.cumsum(0) - counts
    place = (rng.uniform_tensor(n) * counts[number]).long().minimum(counts[number] - 1)
    other = order[first[number] + place]
    images = torch.cat([digits.take(index), digits.take(other)], dim=1)
    return _warped(images, _rts(images, rng), 42), wanted.long()


def sequence(digits: Digits, index: Tensor, rng: SeededGenerator) -> tuple[Tensor, Tensor]:
    """Three digits along a slanted line in 100x100 pixels, among 8 crops; labels ``(B, 3)``.

    As in Sønderby et al. 2015 (arXiv:1509.05329); slope and spacing of the line are not given
    there.
    """
    n, side = len(index), 100
    others = (rng.uniform_tensor(n, 2) * len(digits)).long().clamp(max=len(digits) - 1)
    index = torch.cat([index[:, None], others], dim=1)
    step = torch.stack([_between(rng, -18, 18, n), _between(rng, 24, 34, n)], dim=-1)
    line = torch.arange(3)[:, None] * step[:, None]
    line = line - line.amin(1, keepdim=True)
    room = (side - _SIDE - line.amax(1)).clamp(min=0)
    corner = (line + room[:, None] * rng.uniform_tensor(n, 1, 2)).long().clamp(0, side - _SIDE)
    canvas = _clutter(digits, rng, n, side, 8)
    images = digits.take(index.reshape(-1)).reshape(n, 3, _SIDE, _SIDE)
    return _pasted(canvas, images, corner), digits.labels[index]


Task = Literal["R", "RTS", "P", "E", "RTSE", "TC", "addition", "same", "sequence"]

DISTORTIONS: dict[Task, Distortion] = {
    "R": rotated,
    "RTS": rotated_scaled_translated,
    "P": projected,
    "E": elastic,
    "RTSE": rotated_scaled_elastic,
    "TC": cluttered,
    "addition": addition,
    "same": same_or_not,
    "sequence": sequence,
}
