"""Independence of threads, forked children, the cache of compiled kernels."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stn3d import kernels
from stn3d.kernels import Region
from tests.helpers.geometry_cases import random, uniform
from tests.kernels.cases import (
    centred,
    two_images,
)


def all_kernels() -> list[Tensor]:
    """Values and gradients of every kernel."""
    image, field = random(2, 1, 9, 8, 7).float(), random(1, 3, 9, 8, 7, scale=0.5).float()
    fixed, moved, weight = two_images((9, 8, 7), torch.float32)
    points = uniform(-1, 9, 1, 2000, 3).float()
    inputs = [x.requires_grad_() for x in (image, field, points)] + [moved, weight]
    results = [
        kernels.sample_linear(image, points),
        kernels.compose(field, field),
        kernels.lncc(fixed, moved, weight, (2, 2, 2), 0.01, 0.01),
        kernels.joint_histogram(fixed, moved, weight, 8),
        kernels.box_sum(image, (1, 2, 3)),
    ]
    gradients = torch.autograd.grad(sum((r**2).sum() for r in results), inputs)
    plain = field.detach()
    return [
        *[r.detach() for r in results],
        *gradients,
        kernels.gaussian_smooth(plain, (1.0, 1.0, 1.0)),
        *kernels.warp(image[:1].detach(), torch.eye(4), plain),
        kernels.resample(
            image[:1].detach(),
            1.1 * torch.eye(4),
            (30, 20, 10),
            kernels.Displacement(plain[:1], 0.3 * torch.eye(4), torch.eye(3)),
        ),
        kernels.resample_labels(
            (3 * image[:1]).round().int(),
            1.1 * torch.eye(4),
            (30, 20, 10),
            kernels.Displacement(plain[:1], 0.3 * torch.eye(4), torch.eye(3)),
        ),
        kernels.jacobian_determinant(plain),
        kernels.folded_volume(plain),
        kernels.invert(plain, torch.eye(4), (9, 8, 7), torch.eye(3), 1e-3, 20)[0],
        kernels.cost_volume(image, image, 1),
        kernels.self_similarity(image, torch.ones(image.shape[:2]), 1, 2),
    ]


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(all_kernels())
    finally:
        torch.set_num_threads(before)
    for one, two, three in zip(*found, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


SCRIPT = """
import os, torch
from stn3d import kernels
torch.set_num_threads(2)
def result():
    field = torch.linspace(-1, 1, 3 * 6 * 5 * 4).reshape(1, 3, 6, 5, 4)
    return kernels.compose(field, field)
expected = result()
child = os.fork() if hasattr(os, "fork") else 0
if child == 0:
    os._exit(0 if torch.equal(result(), expected) else 3)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_kernels_are_compiled_once_and_run_in_a_forked_child(tmp_path: Path) -> None:
    folder = {"linux": "XDG_CACHE_HOME", "win32": "LOCALAPPDATA"}.get(sys.platform)
    if folder is None:
        pytest.skip("the cache folder cannot be moved on this system")
    old, young = (tmp_path / "stn3d" / f"kernels-{name}" for name in ("old", "young"))
    for other, days in ((old, 61), (young, 59)):
        other.mkdir(parents=True)
        used = time.time() - 86_400 * days
        os.utime(other, (used, used))
    messages = []
    for _ in range(2):
        ended = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SCRIPT],
            env={**os.environ, folder: str(tmp_path)},
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        messages.append(ended.stderr.count("compiling stn3d's numba kernels"))
    assert messages == [1, 0]
    assert list(tmp_path.rglob("*.nbi"))
    assert (old.exists(), young.exists()) == (False, True)


def deformable_stage(shape: tuple[int, ...]) -> list[Tensor]:
    """Results of every kernel of the deformable stage."""
    d = len(shape)
    mask = (torch.stack([c**2 for c in centred(d, shape[0])]).sum(dim=0)).sqrt() < 0.45 * shape[0]
    region = Region.of(mask)
    image, field = random(1, 1, *shape).float(), random(1, d, *shape, seed=1, scale=0.5).float()
    fixed, weight = random(1, 1, *shape, seed=2).float(), uniform(0, 1, 1, 1, *shape).float()
    warped = kernels.warp(image, torch.eye(d + 1), field, region)
    results = [w for w in warped if w is not None]
    for w in (None, weight):
        moved = warped.moved.clone().requires_grad_()
        loss = kernels.lncc(fixed, moved, w, [2] * d, 0.01, 0.01, region)
        results += [loss.detach(), torch.autograd.grad(loss, moved)[0]]
    inner, out = region.without_faces(), torch.zeros_like(field)
    results.append(kernels.gaussian_smooth(field, [1.73] * d, region, out.clone()))
    results.append(kernels.take_step(field, field, 0.5, 0.6, region, out.clone()))
    results.append(kernels.diffuse_divergence(field, [0.15] * d, inner, out.clone()))
    results.append(kernels.force(image, fixed, inner, out.clone()))
    results.append(kernels.warp_gradient(image, torch.eye(d + 1), field, fixed, weight, region))
    length = kernels.apply_boundary_window(
        field, [torch.linspace(0, 1, n) for n in shape], region, 0.9
    )
    return [*results, field, torch.tensor(length)]


@pytest.mark.parametrize("shape", [(160, 160), (32, 32, 32)])
def test_one_thread_and_two_give_the_same_bytes(shape: tuple[int, ...]) -> None:
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(deformable_stage(shape))
    finally:
        torch.set_num_threads(before)
    assert all(itertools.starmap(torch.equal, zip(*found, strict=True)))
