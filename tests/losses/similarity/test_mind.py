"""MIND-SSC descriptors."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d.losses import mind_descriptor, mind_ssc
from tests.helpers.images import smooth_image

SHAPES = [(13, 11), (9, 7, 8)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("radius", "dilation"), [(1, 1), (1, 2), (2, 1), (0, 2)])
def test_the_descriptor_compares_patches_one_by_one(
    shape: tuple[int, ...], radius: int, dilation: int
) -> None:
    a, d, reach = smooth_image(shape, 3), len(shape), radius + dilation
    padded = F.pad(a, [reach] * 2 * d, mode="replicate")[0, 0]
    steps = [
        dilation * sign * torch.eye(d, dtype=torch.long)[axis]
        for axis in range(d)
        for sign in (-1, 1)
    ]
    pairs = [(p, q) for i, p in enumerate(steps) for q in steps[:i] if (p * q).sum() == 0]
    pairs = [(p, q) for p, q in pairs if (p + q).any()]
    assert len(pairs) == {2: 4, 3: 12}[d]

    def patch(centre: Tensor) -> Tensor:
        return padded[tuple(slice(c + reach - radius, c + reach + radius + 1) for c in centre)]

    found = mind_descriptor(a, radius=radius, dilation=dilation)
    assert found.shape == (1, len(pairs), *shape)
    corners = list(product(*[(0, n // 2, n - 1) for n in shape]))
    for at in corners:
        here = torch.tensor(at)
        distances = torch.stack(
            [((patch(here + p) - patch(here + q)) ** 2).sum() for p, q in pairs]
        )
        expected = torch.exp(-(distances - distances.min()) / distances.mean())
        torch.testing.assert_close(
            found[(0, slice(None), *at)].sort().values, expected.sort().values, rtol=1e-6, atol=0
        )


@pytest.mark.parametrize("shape", SHAPES)
def test_mind_ignores_inverted_and_other_linear_contrast(shape: tuple[int, ...]) -> None:
    a = smooth_image(shape)
    assert mind_ssc(a, 1 - a).item() == pytest.approx(0, abs=1e-12)
    assert mind_ssc(a, 0.2 + 0.3 * a).item() == pytest.approx(0, abs=1e-12)
    assert mind_ssc(a, smooth_image(shape, 1)).item() > 0.02
