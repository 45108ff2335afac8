"""Speed of the affine transformer layer: equal results, and the ratios on the page."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scripts.bench.__main__ import main
from scripts.bench.store import read
from scripts.bench.studies import transformer_speed


def test_ours_and_torchs_are_the_same_transformer() -> None:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(3, 1, 20, 20, generator=generator).requires_grad_()
    theta = (torch.eye(2, 3) + 0.05 * torch.randn(3, 2, 3, generator=generator)).requires_grad_()
    weight = torch.zeros(20, 20)
    weight[4:-4, 4:-4] = 1  # at the faces torch fades and stn3d does not
    found = []
    for contender in (transformer_speed.ours, transformer_speed.plain):
        values = contender(image, theta) * weight
        found.append([values, *torch.autograd.grad(values.square().sum(), (image, theta))])
    for mine, its in zip(*found, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-4)


def test_the_page_has_ratios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "speed"
    options = ["--batch", "4", "--size", "12", "--rounds", "3", "--threads", "2"]
    threads = torch.get_num_threads()
    try:
        main(["transformer_speed", "run", "--out", str(out), *options])
    finally:
        torch.set_num_threads(threads)
    assert len(read(out).rows) in (4, 6)
    page = (out / "README.md").read_text(encoding="utf-8")
    assert page.count("| stn3d |") == 2
    assert page.count("| 1.00 |") >= 2
    assert "Gradients of thetas and images" in page
