"""The speed of the affine transformer: contenders do the same, and the page tells ratios."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import transformer_speed  # noqa: E402


def test_ours_and_torchs_are_the_same_transformer() -> None:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(3, 1, 20, 20, generator=generator).requires_grad_()
    theta = (torch.eye(2, 3) + 0.05 * torch.randn(3, 2, 3, generator=generator)).requires_grad_()
    weight = torch.zeros(20, 20)
    weight[4:-4, 4:-4] = 1  # beyond the faces torch fades and we do not
    found = []
    for contender in (transformer_speed.ours, transformer_speed.plain):
        values = contender(image, theta) * weight
        found.append([values, *torch.autograd.grad(values.square().sum(), (image, theta))])
    for mine, its in zip(*found, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-4)


def test_the_page_tells_ratios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "speed"
    options = ["--batch", "4", "--size", "12", "--rounds", "3", "--threads", "2"]
    threads = torch.get_num_threads()
    try:
        transformer_speed.main(["--out", str(out), *options])
    finally:
        torch.set_num_threads(threads)
    found = json.loads(out.with_suffix(".json").read_text())
    assert len(found["rows"]) in (4, 6)
    page = out.with_suffix(".md").read_text()
    assert page.count("| stn3d |") == 2
    assert page.count("| 1.00 |") >= 2
    assert "Gradients of thetas and images" in page
