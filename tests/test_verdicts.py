"""The cases that verdicts are measured by, and the tables made of them."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from stn3d.grid import Grid
from stn3d.transforms import Affine
from stn3d.warp import jacobian_determinant
from tests.registration.test_quality import SOUND

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture(scope="module")
def verdicts() -> ModuleType:
    sys.path.insert(0, str(SCRIPTS))
    try:
        return importlib.import_module("verdicts")
    finally:
        sys.path.remove(str(SCRIPTS))


def row(number: int, error_mm: float, what: str = "contrasts", **signs: float) -> dict[str, Any]:
    return {
        "number": number,
        "what": what,
        "error_mm": error_mm,
        "verdict": {"signs": dataclasses.asdict(dataclasses.replace(SOUND, **signs))},
    }


def test_rows_become_tables_and_shares(verdicts: ModuleType, tmp_path: Path) -> None:
    rows = [
        row(0, 0.4),
        row(2, 3.0),
        row(4, 9.0, disagreement=0.3, disagreement_mm=60.0),
        row(6, math.inf, "strangers", stretch=1.5),
        row(61, 7.5),
        {"number": 301, "what": "strangers", "refused": "the images do not overlap."},
    ]
    folder = tmp_path / "work" / "0"
    folder.mkdir(parents=True)
    lines = [json.dumps(one) for one in rows]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf8")
    verdicts.main(["report", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "page")])
    page = (tmp_path / "page.md").read_text(encoding="utf8")
    seen, unseen = page.split("## Cases that nothing")
    assert "| good | 1 | 1 | 0 | 0 |" in seen
    assert "| check | 0 | 0 | 0 | 1 |" in seen
    assert "| failed | 0 | 0 | 1 | 0 |" in seen
    assert "Of 2 failures 0 were called good; of 1 registrations within 2 mm 1 were." in seen
    assert "Of 1 failures 1 were called good" in unseen
    assert "| refused | 0 | 0 | 0 | 1 |" in unseen
    assert "- 61: contrasts, 7.5 mm" in page
    told = json.loads((tmp_path / "page.json").read_text(encoding="utf8"))
    assert [one["number"] for one in told["rows"]] == [0, 2, 4, 6, 61, 301]


def test_no_rows_no_page(verdicts: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no rows"):
        verdicts.main(["report", "--work", str(tmp_path), "--out", str(tmp_path / "page")])


def test_slabs_keep_their_place_in_the_world(verdicts: ModuleType) -> None:
    grid = Grid.of_spacing((20, 24, 30), 2.0)
    values = grid.points_mm()[..., 2].float()[None, None]
    part, where = verdicts.slab((values, grid), 0.5, 2)
    assert part.shape[2:] == where.shape == (20, 24, 15)
    assert torch.allclose(part[0, 0].double(), where.points_mm()[..., 2], atol=1e-4)


def test_deformations_are_smooth_and_do_not_fold(verdicts: ModuleType) -> None:
    grid = Grid.of_spacing((60, 70, 60), 2.0)
    generator = torch.Generator().manual_seed(3)
    field = verdicts.deformation(grid, generator, 10.0)
    moved = (field(grid.points_mm()) - grid.points_mm()).norm(dim=-1)
    assert 2 < float(moved.max()) < 14
    assert float(jacobian_determinant(field, grid).min()) > 0


def test_errors_count_what_both_images_show(verdicts: ModuleType) -> None:
    grid = Grid.of_spacing((30, 30, 30), 2.0)
    image = torch.zeros(1, 1, 30, 30, 30)
    image[..., 5:25, 5:25, 5:25] = torch.rand(20, 20, 20) + 1
    shift = Affine.from_matrix(torch.eye(4, dtype=torch.float64))
    here = (image, grid)
    case = verdicts.Drawn("contrasts", here, here, shift)
    aside = torch.eye(4, dtype=torch.float64)
    aside[0, 3] = 3.0
    assert verdicts.error_mm(Affine.from_matrix(aside), case) == pytest.approx(3.0)
    far = torch.eye(4, dtype=torch.float64)
    far[0, 3] = 500.0
    gone = verdicts.Drawn("contrasts", here, here, Affine.from_matrix(far))
    assert verdicts.error_mm(Affine.from_matrix(far), gone) == math.inf
    strangers = verdicts.Drawn("strangers", here, here, None)
    assert verdicts.error_mm(shift, strangers) == math.inf


@pytest.mark.skipif(
    not (SCRIPTS.parents[1] / "shared" / "data").is_dir(), reason="no ../shared/data"
)
@pytest.mark.parametrize("number", [0, 2, 4, 6, 8])
def test_a_number_always_draws_the_same_case(verdicts: ModuleType, number: int) -> None:
    one, two = verdicts.draw(number), verdicts.draw(number)
    assert one.what == verdicts.FAMILIES[number // 2 % 5]
    assert torch.equal(one.moving[0], two.moving[0])
    assert (one.truth is None) == (one.what == "strangers")
    assert bool(torch.isfinite(one.moving[0]).all())
