"""MNIST files and distortions of digits."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.synth.digits import DISTORTIONS, Digits, Task, read_digits
from stn3d.synth.generator import SeededGenerator
from tests.helpers.digits import digits
from tests.helpers.paths import DATA

MNIST = DATA / "mnist"


SIDES = {"R": 28, "RTS": 42, "P": 42, "E": 28, "RTSE": 42, "TC": 60, "sequence": 100}


def distorted(task: Task, count: int = 40, seed: int = 3) -> tuple[Tensor, Tensor]:
    return DISTORTIONS[task](digits(count), torch.arange(count), SeededGenerator(seed))


def idx(path: Path, array: np.ndarray, kind: int = 8, cut: int = 0) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
    data = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data[: len(data) - cut]))


def write_mnist(folder: Path, source: Digits, part: str = "train") -> None:
    idx(folder / f"{part}-images-idx3-ubyte.gz", source.images.numpy())
    idx(folder / f"{part}-labels-idx1-ubyte.gz", source.labels.numpy())


def test_files_are_read_as_they_werewrite_image_file(tmp_path: Path) -> None:
    source = digits(12)
    write_mnist(tmp_path, source)
    write_mnist(tmp_path, source.subset(0, 5), "t10k")
    again = read_digits(tmp_path, "train")
    assert torch.equal(again.images, source.images)
    assert torch.equal(again.labels, source.labels)
    assert len(read_digits(tmp_path, "test")) == 5
    assert torch.equal(again.take(torch.tensor([3]))[0, 0], source.images[3] / 255)


def test_invalid_files_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_digits(tmp_path, "train")
    write_mnist(tmp_path, digits(4))
    images = tmp_path / "train-images-idx3-ubyte.gz"
    idx(images, np.zeros((4, 27, 28)))
    with pytest.raises(InputError, match="not MNIST;"):
        read_digits(tmp_path, "train")
    idx(images, np.zeros((4, 28, 28)), cut=1)
    with pytest.raises(InputError, match="does not match"):
        read_digits(tmp_path, "train")
    idx(images, np.zeros((4, 28, 28)), kind=13)
    with pytest.raises(InputError, match="not an IDX file of bytes"):
        read_digits(tmp_path, "train")
    images.write_bytes(b"not gzip")
    with pytest.raises(InputError, match="cannot be read"):
        read_digits(tmp_path, "train")


@pytest.mark.skipif(not MNIST.exists(), reason="../shared/data/mnist is not here")
def test_the_real_files() -> None:
    train, test = read_digits(MNIST, "train"), read_digits(MNIST, "test")
    assert (len(train), len(test)) == (60_000, 10_000)
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert float(train.images.float().mean() / 255) == pytest.approx(0.1307, abs=1e-4)


@pytest.mark.parametrize("task", get_args(Task))
def test_each_task_is_a_function_of_its_generator(task: Task) -> None:
    images, labels = distorted(task)
    again, _ = distorted(task)
    other, _ = distorted(task, seed=4)
    assert torch.equal(images, again)
    assert not torch.equal(images, other)
    side, channels = SIDES.get(task, 42), 2 if task in ("addition", "same") else 1
    assert images.shape == (40, channels, side, side)
    assert images.dtype == torch.float32
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1 + 1e-6
    assert labels.shape == ((40, 3) if task == "sequence" else (40,))
    single = [t for t in get_args(Task) if t not in ("addition", "same", "sequence")]
    if task in single:
        assert torch.equal(labels, digits().labels)


def angles_deg(images: Tensor) -> Tensor:
    """The angle of a bar to the vertical, -90 to 90 degrees, from second moments."""
    n = images.shape[-1]
    rows, columns = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    mass = images[:, 0].double() / images[:, 0].double().sum((1, 2), keepdim=True)
    r0, c0 = (mass * rows).sum((1, 2)), (mass * columns).sum((1, 2))
    r, c = rows - r0[:, None, None], columns - c0[:, None, None]
    rr, cc, rc = ((mass * a * b).sum((1, 2)) for a, b in ((r, r), (c, c), (r, c)))
    return torch.rad2deg(0.5 * torch.atan2(2 * rc, rr - cc))


def test_rotations_cover_their_range_and_keep_the_total_intensity() -> None:
    for task, most in (("R", 90), ("RTS", 45)):
        images, _ = distorted(task, 400)  # type: ignore[arg-type]
        angles = angles_deg(images).abs()
        assert float(angles.max()) <= most + 0.5
        assert float(angles.max()) > 0.95 * most
        assert float(angles.median()) == pytest.approx(most / 2, rel=0.15)
    ink = distorted("R", 400)[0].sum((1, 2, 3))
    straight = digits(400).take(torch.arange(400)).sum((1, 2, 3))
    assert float((ink / straight - 1).abs().max()) < 0.05


def test_scales_cover_their_range() -> None:
    images, labels = distorted("RTS", 400)
    area = images.sum((1, 2, 3)) / (2.0 * (6 + labels))
    scale = area.sqrt()
    assert float(scale.min()) == pytest.approx(0.7, abs=0.05)
    assert float(scale.max()) == pytest.approx(1.2, abs=0.05)
    assert not images[:, :, [0, -1]].any()  # the digit is inside its canvas
    assert not images[..., [0, -1]].any()


def test_elastic_and_projective_distortions() -> None:
    straight = digits(60).take(torch.arange(60))
    elastic = distorted("E", 60)[0]
    moved = (elastic - straight).abs().sum((1, 2, 3)) / straight.sum((1, 2, 3))
    assert bool((moved > 0.1).all())
    projected = distorted("P", 60)[0]
    ink = projected.sum((1, 2, 3)) / straight.sum((1, 2, 3))
    assert float(ink.median()) == pytest.approx(0.875**2, rel=0.2)


def test_clutter_keeps_the_whole_digit() -> None:
    images, labels = distorted("TC", 60)
    bars = digits(60).take(torch.arange(60))
    for image, bar in zip(images, bars, strict=True):
        windows = image[0].unfold(0, 28, 1).unfold(1, 28, 1)
        gaps = (bar[0] - windows).clamp(min=0).sum((-1, -2))
        assert float(gaps.min()) == 0  # the whole bar is visible somewhere
    ink = images.sum((1, 2, 3)) - 2 * (6 + labels)
    assert float(ink.mean()) > 20


def test_labels_of_several_digits() -> None:
    images, sums = distorted("addition", 200)
    own = digits(200).labels
    assert bool(((sums - own >= 0) & (sums - own <= 9)).all())
    assert len(set((sums - own).tolist())) == 10
    images, same = distorted("same", 400)
    assert 0.4 < float(same.double().mean()) < 0.6
    ink = images.sum((2, 3))
    ratio = ink[:, 0] / ink[:, 1]
    assert float((ratio[same == 1] - 1).abs().max()) < 0.02  # one transform for both
    assert float((ratio[same == 0] - 1).abs().min()) > 0.02
    images, three = distorted("sequence", 60)
    assert torch.equal(three[:, 0], digits(60).labels)
    rest = images.sum((1, 2, 3)) - 2 * (6 + three).sum(1)
    assert bool((rest > -2 * 30).all())  # digits may overlap with crops
