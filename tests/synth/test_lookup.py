"""Table look-up through label maps."""

from __future__ import annotations

import pytest
import torch

from stn3d.grid import centred_grid
from stn3d.synth.geometry import Lattice
from stn3d.synth.lookup import look_up, look_up_reference


def test_averages_give_partial_volumes() -> None:
    codes = torch.zeros(40, 40, dtype=torch.uint8)
    codes[:, 20:] = 1
    table = torch.zeros(256)
    table[1] = 8
    nodes = Lattice(centred_grid((6, 6), 1.0), 2, 0)
    index = torch.stack(
        torch.meshgrid(*[torch.arange(n) * 2.0 for n in nodes.shape], indexing="ij")
    )
    index = (
        index * 4 + 3.4
    )  # voxel j is centred on 4 j + 3.4: the left half of voxel 4 is filled with 0
    quarters = [(-0.25, -0.25), (-0.25, 0.25), (0.25, -0.25), (0.25, 0.25)]
    mean = look_up(codes, table, index, (6, 6), quarters) / 4
    assert mean[0].tolist() == [0, 0, 0, 0, 4, 8]


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16])
@pytest.mark.parametrize("ndim", [2, 3])
def test_numba_and_torch_agree(ndim: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(ndim)
    codes = torch.randint(0, 9, (30,) * ndim, generator=generator).to(torch.uint8)
    table = (100 * torch.rand(256, generator=generator)).to(dtype)
    shape = (21, 16, 24)[:ndim]
    lattice = Lattice(centred_grid(shape, 1.0), 2, 0)
    nodes = 40 * torch.rand(ndim, *lattice.shape, generator=generator) - 5
    options = codes, table, nodes, shape, [(0.0,) * ndim]
    fast, plain = look_up(*options), look_up_reference(*options)
    assert fast.dtype == dtype
    assert (fast != plain).float().mean() < 1e-3  # ties depend on rounding
