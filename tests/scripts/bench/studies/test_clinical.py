"""The pairs of the study clinical, and that it compares tools on the same pairs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from scripts.bench import clinical_pairs
from scripts.bench.clinical_pairs import Case
from scripts.bench.studies import clinical


@pytest.fixture
def options(tmp_path: Path) -> clinical.Options:
    return clinical.Options(work=tmp_path / "work", out=tmp_path / "out")


def test_all_pairs_or_a_balanced_part(options: clinical.Options) -> None:
    assert len({*clinical.cases(options)}) == 540
    part = list(clinical.cases(replace(options, balanced=True, seeds="1,2")))
    assert len(part) == 18
    cells = Counter((case.contrast, case.thickness_mm) for case in part)
    assert {*cells.values()} == {2}
    assert len(cells) == 9
    for key in ("contrast", "thickness_mm"):  # every direction with each of them
        assert {*Counter((getattr(case, key), case.axis) for case in part).values()} == {2}
    assert {*Counter(case.noise_pct for case in part)} == {3.0, 9.0}
    with pytest.raises(SystemExit, match="--axes 'q': choose from"):
        list(clinical.cases(replace(options, axes="q")))


def test_all_cells_once_with_three_seeds(options: clinical.Options) -> None:
    short = replace(options, balanced=True, seeds="1,2,3")
    both = [*clinical.cases(short), *clinical.cases(replace(short, noise="9,3"))]
    assert len({tuple(vars(case)[key] for key in clinical.CELL) for case in both}) == 54


def test_larger_voxels_are_sampled_on_the_field_of_view_of_the_content(tmp_path: Path) -> None:
    values = np.zeros((60, 50, 40))
    values[20:40, 15:35, 10:30] = 100.0
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    case = Case("moving", "t2", 5.0, "z", 3.0, "gaussian", 1, 2.0)
    part, moved = clinical_pairs.sampled(*clinical_pairs.field_of_view(values, affine), case, 2)
    assert part.shape == (20, 20, 40)  # 10 voxels around the content, and the axis of the slices
    centre = ndimage.center_of_mass(part)
    np.testing.assert_allclose(moved @ [*centre, 1], affine @ [29.5, 24.5, 19.5, 1], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(moved[:3, :3], axis=0), [2, 2, 1])


@pytest.mark.parametrize(
    ("role", "fixed", "moving"), [("moving", None, 2), ("fixed", 2, None), ("both", 0, 2)]
)
def test_the_role_names_the_image_with_slices(role: Any, fixed: Any, moving: Any) -> None:
    case = Case(role, "t2", 5.0, "z", 3.0, "gaussian", 1)
    assert (case.axis_of("fixed"), case.axis_of("moving")) == (fixed, moving)


def test_measured_rows_are_not_measured_again_and_tools_share_their_pairs(
    options: clinical.Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Case] = []
    monkeypatch.setattr(clinical, "available", lambda tools, _: dict.fromkeys(tools, "1"))
    monkeypatch.setattr(clinical, "make_pair", lambda case, *_: made.append(case))
    error = {"stn3d": 1.0, "greedy-nmi": 2.0}
    monkeypatch.setattr(
        clinical, "measured", lambda tool, *_: {"true_error_mm": error[tool], "wall_s": 3.0}
    )
    first = replace(options, contrasts="t2", thickness="5", seeds="1", tools="stn3d")
    clinical.run(first)
    clinical.run(replace(first, axes="x", noise="3", tools="stn3d,greedy-nmi"))
    assert len(made) == 7  # six pairs, and one of them again for the second tool
    page = (options.out / "README.md").read_text(encoding="utf-8")
    shared, everything = page.split("\n## All pairs")
    assert "| moving | t2 | 5.0 | 1 | 1 | 2 |" in shared
    everything, cells = everything.split("\n## Cells")
    assert (
        "Of 1 that stn3d and another tool registered, the lowest error has: stn3d in 1, greedy"
        in cells
    )
    assert "| moving | 1.0 | t2 | 5.0 | x | 3.0 | 1 | 2 | stn3d |" in cells
    assert "| moving | t2 | 5.0 | 6 | 1 |" in everything
