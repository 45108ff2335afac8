"""MNIST's digits, distorted on the fly: the tasks that spatial transformers were first tried on.

Jaderberg et al. 2015 (arXiv:1506.02025), section 4.1 and appendix A; what they leave open is said
with each distortion. All is a function of the rng alone.
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

Part = Literal["train", "test"]
_FILES = {"train": "train", "test": "t10k"}
_SIDE = 28


@dataclass(frozen=True, eq=False)
class Digits:
    """Images of digits and what they show.

    Args:
        images: ``(N, 28, 28)`` bytes, rows from the top.
        labels: ``(N,)`` whole numbers from 0 to 9.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int, stop: int) -> Digits:
        """The digits from one running number up to another."""
        return Digits(self.images[start:stop], self.labels[start:stop])

    def take(self, index: Tensor) -> Tensor:
        """``(B, 1, 28, 28)`` images of running numbers, from 0 to 1."""
        return self.images[index][:, None].float() / 255


def read_digits(folder: str | os.PathLike[str], part: Part) -> Digits:
    """Read MNIST's files, ``train-images-idx3-ubyte.gz`` and its like.

    Args:
        folder: where they are.
        part: ``train`` (60,000) or ``test`` (10,000).

    Raises:
        InputError: a file is missing or is no IDX file of bytes.
    """
    images = _read_idx(Path(folder) / f"{_FILES[part]}-images-idx3-ubyte.gz")
    labels = _read_idx(Path(folder) / f"{_FILES[part]}-labels-idx1-ubyte.gz")
    if images.ndim != 3 or images.shape[1:] != (_SIDE, _SIDE) or labels.shape != images.shape[:1]:
        raise InputError(
            f"{folder} holds images {tuple(images.shape)} and labels {tuple(labels.shape)}, which "
            "are not MNIST's; give the folder of its four .gz files."
        )
    return Digits(images, labels.long())


def _read_idx(path: Path) -> Tensor:
    """LeCun's IDX: two zeros, the type (8: bytes), the number of axes, their sizes, the data."""
    try:
        data = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"there is no {path}; give the folder of MNIST's .gz files.") from None
    except (OSError, EOFError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise InputError(f"{path} is no IDX file of bytes; give MNIST's own files.")
    start = 4 + 4 * data[3]
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    if len(data) != start + math.prod(shape):
        raise InputError(f"{path} is cut off or too long for its header {shape}.")
    return torch.frombuffer(bytearray(data[start:]), dtype=torch.uint8).reshape(shape)


# -- one digit on a canvas -------------------------------------------------------------------------

Distortion = Callable[[Digits, Tensor, SeededGenerator], tuple[Tensor, Tensor]]


def _between(rng: SeededGenerator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * rng.uniforms(*shape)


def _drawn(images: Tensor, digit_from_canvas: Transform, side: int) -> Tensor:
    """Digits read through a transform of a canvas, both about their centres."""
    return warp_batch(images, _about_centre(_SIDE), digit_from_canvas, _about_centre(side))


def _about_centre(side: int) -> Grid:
    """A square grid of pixels whose centre is the origin."""
    return Grid((side, side), homogeneous(torch.eye(2), torch.full((2,), -(side - 1) / 2)))


def _similar(angle: Tensor, scale: Tensor, shift: Tensor) -> Affine:
    """Canvas to digit, for digits that are turned and enlarged, then shifted; ``(B, ...)``."""
    linear = rotation_matrix(-angle[:, None]) / scale[:, None, None]
    back = -(linear @ shift[..., None])[..., 0]
    return Affine.from_matrix(homogeneous(linear, back).double())


def rotated(digits: Digits, index: Tensor, rng: SeededGenerator) -> tuple[Tensor, Tensor]:
    """R: turned by up to 90 degrees; 28x28."""
    n = len(index)
    angle = _between(rng, -math.pi / 2, math.pi / 2, n)
    turn = _similar(angle, torch.ones(n), torch.zeros(n, 2))
    return _drawn(digits.take(index), turn, _SIDE), digits.labels[index]


def _rts(images: Tensor, rng: SeededGenerator, side: int = 42) -> Affine:
    n = len(images)
    angle = _between(rng, -math.pi / 4, math.pi / 4, n)
    scale = _between(rng, 0.7, 1.2, n)
    room = (side - _SIDE * scale).clamp(min=0) / 2
    return _similar(angle, scale, room[:, None] * _between(rng, -1, 1, n, 2))


def rotated_scaled_translated(digits: Digits, index: Tensor, rng: SeededGenerator) -> tuple[Tensor, Tensor]:
    """RTS: turned by up to 45 degrees, scaled by 0.7 to 1.2, anywhere in 42x42 pixels."""
    images = digits.take(index)
    return _drawn(images, _rts(images, rng), 42), digits.labels[index]


def projected(digits: Digits, index: Tensor, rng: SeededGenerator) -> tuple[Tensor, Tensor]:
    """P: scaled by 0.75 to 1, then each corner moved by normal noise of 5 pixels; 42x42.

    The noise is cut at 5.5 pixels, so that no corner passes another. The canvas is ours.
    """
    n = len(index)
    corners = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1]]).double() * (_SIDE / 2)
    moved = corners * _between(rng, 0.75, 1.0, n, 1, 1).double()
    moved = moved + (5 * rng.normals(n, 4, 2).double()).clamp(-5.5, 5.5)
    matrix = _homography(moved, corners.expand(n, 4, 2))
    images = _drawn(digits.take(index), Projective.from_matrix(matrix), 42)
    return images, digits.labels[index]


def _homography(points: Tensor, targets: Tensor) -> Tensor:
    """``(B, 3, 3)`` through four points and their targets ``(B, 4, 2)`` (direct linear map)."""
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
    """E: a thin-plate spline of 16 control points moved by normal noise of 1.5 pixels; 28x28."""
    images = digits.take(index)
    return _drawn(images, _elastic(len(index), rng, _SIDE), _SIDE), digits.labels[index]


def _elastic(n: int, rng: SeededGenerator, side: int) -> ThinPlateSpline:
    controls = control_grid(_about_centre(side), 4).points_mm().reshape(-1, 2)
    return ThinPlateSpline(controls, controls + 1.5 * rng.normals(n, 16, 2).double())


def rotated_scaled_elastic(digits: Digits, index: Tensor, rng: SeededGenerator) -> tuple[Tensor, Tensor]:
    """RTSE: RTS, and before it E on the digit's own grid; 42x42. Ours, for cascades."""
    images = digits.take(index)
    rts = _rts(images, rng)
    both = Chain((rts, _elastic(len(index), rng, _SIDE)))
    return _drawn(images, both, 42), digits.labels[index]


# -- canvases with more than a digit ---------------------------------------------------------------


def cluttered(digits: Digits, index: Tensor, rng: SeededGenerator) -> tuple[Tensor, Tensor]:
    """TC: anywhere in 60x60 pixels, among 6 pieces of 8x8 pixels of other digits."""
    canvas = _clutter(digits, rng, len(index), 60, 6)
    corner = _places(rng, len(index), 1, 60 - _SIDE)
    return _pasted(canvas, digits.take(index), corner), digits.labels[index]


def _places(rng: SeededGenerator, n: int, count: int, top: int) -> Tensor:
    """``(n, count, 2)`` whole numbers from 0 to ``top``."""
    return (rng.uniforms(n, count, 2) * (top + 1)).long().clamp(max=top)


def _clutter(digits: Digits, rng: SeededGenerator, n: int, side: int, count: int) -> Tensor:
    """Canvases ``(n, 1, side, side)`` with pieces of random digits, cut from where ink may be."""
    whole = digits.take((rng.uniforms(n * count) * len(digits)).long().clamp(max=len(digits) - 1))
    cut = 4 + _places(rng, n * count, 1, 12)[:, 0]
    offsets = torch.arange(8)
    rows, columns = cut[:, :1] + offsets, cut[:, 1:] + offsets
    each = torch.arange(n * count)[:, None, None]
    pieces = whole[:, 0][each, rows[:, :, None], columns[:, None]].reshape(n, count, 8, 8)
    return _pasted(torch.zeros(n, 1, side, side), pieces, _places(rng, n, count, side - 8))


def _pasted(canvas: Tensor, pieces: Tensor, corner: Tensor) -> Tensor:
    """Pieces ``(n, count, h, w)`` at corners ``(n, count, 2)``; the brightest wins."""
    n, _, _, side = canvas.shape
    h, w = pieces.shape[2:]
    rows = corner[..., :1] + torch.arange(h)
    columns = corner[..., 1:] + torch.arange(w)
    at = (rows[..., :, None] * side + columns[..., None, :]).reshape(n, -1)
    flat = canvas.reshape(n, -1).scatter_reduce(1, at, pieces.reshape(n, -1), "amax")
    return flat.reshape(canvas.shape)


def addition(digits: Digits, index: Tensor, rng: SeededGenerator) -> tuple[Tensor, Tensor]:
    """Two digits, each on a channel of its own under an RTS of its own; the label is their sum."""
    other = (rng.uniforms(len(index)) * len(digits)).long().clamp(max=len(digits) - 1)
    first, a = rotated_scaled_translated(digits, index, rng)
    second, b = rotated_scaled_translated(digits, other, rng)
    return torch.cat([first, second], dim=1), a + b


def same_or_not(digits: Digits, index: Tensor, rng: SeededGenerator) -> tuple[Tensor, Tensor]:
    """Two digits on two channels under one RTS; 1 where they are the same number. Ours."""
    n = len(index)
    wanted = rng.uniforms(n) < 0.5
    offset = (rng.uniforms(n) * 9).long().clamp(max=8) + 1
    number = torch.where(wanted, digits.labels[index], (digits.labels[index] + offset) % 10)
    order = digits.labels.argsort(stable=True)
    counts = torch.bincount(digits.labels, minlength=10)
    first = counts.cumsum(0) - counts
    place = (rng.uniforms(n) * counts[number]).long().minimum(counts[number] - 1)
    other = order[first[number] + place]
    images = torch.cat([digits.take(index), digits.take(other)], dim=1)
    return _drawn(images, _rts(images, rng), 42), wanted.long()


def sequence(digits: Digits, index: Tensor, rng: SeededGenerator) -> tuple[Tensor, Tensor]:
    """Three digits along a slanted line in 100x100 pixels, among 8 pieces; labels ``(B, 3)``.

    As in Sønderby et al. 2015 (arXiv:1509.05329); the numbers of the line are ours.
    """
    n, side = len(index), 100
    others = (rng.uniforms(n, 2) * len(digits)).long().clamp(max=len(digits) - 1)
    index = torch.cat([index[:, None], others], dim=1)
    step = torch.stack([_between(rng, -18, 18, n), _between(rng, 24, 34, n)], dim=-1)
    line = torch.arange(3)[:, None] * step[:, None]
    line = line - line.amin(1, keepdim=True)
    room = (side - _SIDE - line.amax(1)).clamp(min=0)
    corner = (line + room[:, None] * rng.uniforms(n, 1, 2)).long().clamp(0, side - _SIDE)
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
