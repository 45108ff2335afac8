"""The memory floor: what every call of a kernel must move, and the tables."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scripts.bench.store import Results, write
from scripts.bench.studies.floor import costs, measure, report
from stn3d import kernels
from stn3d.kernels import Region
from stn3d.preprocessing.intensity import scaled
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.initialisation.strategies import simple_candidates
from stn3d.registration.settings import settings_from
from tests.helpers.synthetic import dense_truth, grid_about, known_pair

SHAPE = (6, 7, 8)
N = 6 * 7 * 8
INNER = Region.full(SHAPE).without_faces()
M = 4 * 5 * 6


def test_every_input_and_output_counts_once_where_the_kernel_works() -> None:
    image, field = torch.rand(1, 1, *SHAPE), torch.zeros(1, 3, *SHAPE)
    matrix, out = torch.eye(4, dtype=torch.float64), torch.zeros_like(field)
    read = kernels.warp(image, matrix, field, INNER)
    seen = 0 if read.coverage is None else 1
    step = out, field, 1.0, 1.0, INNER, out
    of = costs
    counted = {
        "warp": of.of_warp(read, image, matrix, field, INNER).numbers / M,
        "warp_gradient": of.of_warp_gradient(matrix, image, matrix, field, image, image).numbers
        / N,
        "force": of.of_force(out, image, image, INNER, out).numbers / M,
        "step": of.of_step(out, *step).numbers / M,
        "step with velocity": of.of_step(out, *step, field, 0.5).numbers / M,
        "smooth": of.of_smooth(out, field, [1.0] * 3, INNER, out).numbers / M,
    }
    assert counted == {
        "warp": 3 + 1 + 1 + seen,
        "warp_gradient": 3 + 1 + 1 + 1,
        "force": 1 + 1 + 3,
        "step": 9,
        "step with velocity": 15,
        "smooth": 6,
    }


def test_every_kernel_of_the_stages_has_a_row_and_the_tables_hold_them(tmp_path: Path) -> None:
    grid = grid_about(torch.zeros(3), [30.0] * 3, (1.0, 1.0, 1.0))
    known = known_pair(dense_truth(grid, 1.0), grid, grid)
    pair = Pair(*[PreparedImage(scaled(values), grid) for values in (known.fixed, known.moving)])
    transform, meter = simple_candidates(pair)[0].transform, measure.Meter()
    for stage in settings_from({"preset": "fast"}).stages():
        with meter.of_stage(stage.name), meter.watching():
            transform = stage(pair, transform, lambda *_: None)
    rows = list(meter.rows.values())
    assert {row.kernel.partition(",")[0] for row in rows} == {*costs.COSTS, "rest"}
    assert all(row.bytes > 0 and row.flops > 0 for row in rows if row.kernel != "rest")
    calls = {
        name: sum(row.calls for row in rows if (row.stage, row.kernel) == ("deformable", name))
        for name in ("warp", "lncc", "force", "take_step", "warp_gradient")
    }
    assert (
        calls["warp"] == calls["lncc"] == calls["force"] + 2
    )  # the stage compares two fields at its end
    assert calls["force"] >= calls["take_step"] > 0
    assert calls["warp_gradient"] == 0
    assert [row.kernel for row in rows if row.level == "all"] == ["rest"] * 3
    head = {
        "command": "floor run",
        "images": ["a", "b"],
        "preset": "fast",
        "machine": "a machine",
        "load_before": 0.0,
        "threads": 2,
        "repeats": 1,
        "last_cache_mib": 32.0,
        "bandwidth_gb_per_s": 10.0,
        "arithmetic_gflops": 100.0,
    }
    rows_of = [vars(row) for row in measure.least([rows, rows])]
    write(tmp_path / "results.json", Results("floor", head, rows_of))
    report(tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| **all stages** |" in text
    for row in rows:
        assert f"| {row.stage}, {row.level} | {row.kernel} | {row.calls or ''} |" in text


def test_a_missing_file_is_reported() -> None:
    with pytest.raises(
        SystemExit, match="There is no file nowhere; give a folder that a study wrote"
    ):
        report(Path("nowhere"))
