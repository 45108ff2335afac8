"""The throughput of training: each network trains, rows are kept by place, and the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("ignite")

from scripts.bench.__main__ import main
from scripts.bench.store import Results, read, write
from scripts.bench.studies.throughput import child, page, study
from scripts.bench.studies.throughput.networks import CONTENDERS
from stn3d.train import prepare_pair_batch
from stn3d.train.config import read_config

pytestmark = pytest.mark.slow

HERE = {"machine": "a machine", "shape": [64, 64, 64], "batch_size": 1, "threads": 2}
FIGURES = {"parameters": 1234567, "step_s": 0.25, "pairs_per_s": 4.0, "peak_gb": 1.0}


def a_job(**changes: Any) -> child.Job:
    fields = {"network": "", "precision": "float32", "device": "cpu", "shape": [64, 64, 64]}
    fields |= {"batch_size": 1, "threads": 1, "steps": 1, "repeats": 1}
    return child.Job(**(fields | changes))


def config_of(edge: int) -> Any:
    config = read_config([child.CONFIG])
    config["shape"], config["shapes"], config["held_out"] = [edge] * 3, 2, 1
    return config


# MONAI's own, of its Warp and of its regularities.
@pytest.mark.filterwarnings("ignore:monai.networks.blocks.Warp:UserWarning")
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")
@pytest.mark.parametrize("name", CONTENDERS)
def test_every_network_learns_from_a_batch(name: str) -> None:
    config = config_of(64 if "Cascade affine" in name else 32)
    pair, batch = prepare_pair_batch(child.synthetic(config, 1)[0], torch.device("cpu"))
    contender = CONTENDERS[name](config)
    loss = contender.loss(contender.output(pair), batch)
    loss.backward()
    slopes = [p.grad for p in contender.network.parameters() if p.grad is not None]
    assert loss.isfinite()
    assert any(float(slope.abs().max()) > 0 for slope in slopes)
    assert all(bool(slope.isfinite().all()) for slope in slopes)


def test_a_step_is_timed_after_some_that_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 6.0, 10.0, 13.0])  # two runs, of 6 and 3 seconds
    monkeypatch.setattr(child.time, "perf_counter", lambda: next(clock))
    seen: list[int] = []
    job = a_job(steps=3, repeats=2)
    batches: Any = [(0, {}), (1, {})]
    assert child.best_seconds(lambda pair, _: seen.append(pair), batches, job) == 1.0
    assert seen == [0, 1, 0, 1, 0, 0, 1, 0]


def test_rows_are_kept_by_machine_and_grid_and_failures_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []
    fails = [("VoxelMorph", "bfloat16")]

    def measured(what: str, precision: str, options: Any) -> dict[str, Any]:
        if not what:
            return {**HERE, "shape": [int(n) for n in options.shape.split(",")]}
        asked.append((what, precision))
        return {"failed": "no memory"} if (what, precision) in fails else dict(FIGURES)

    monkeypatch.setattr(study, "child", measured)
    command = ["throughput", "run", "--out", str(tmp_path), "--networks", "LocalNet,VoxelMorph"]
    main(command)
    every = [(n, p) for n in ("LocalNet", "VoxelMorph") for p in study.PRECISIONS]
    assert asked == every
    assert "- VoxelMorph, bfloat16, failed: no memory" in (tmp_path / "README.md").read_text(
        encoding="utf-8"
    )
    fails.clear()
    main(command)
    assert asked[4:] == [("VoxelMorph", "bfloat16")]
    main([*command, "--shape", "96,64,64", "--precisions", "float32"])
    assert asked[5:] == [("LocalNet", "float32"), ("VoxelMorph", "float32")]
    main([*command, "--again"])
    assert asked[7:] == every
    assert len(read(tmp_path).rows) == 6
    assert sorted(p.name for p in tmp_path.iterdir()) == ["README.md", "results.json"]


def test_the_page_has_a_table_for_each_place(tmp_path: Path) -> None:
    rows = [
        {**HERE, "network": "LocalNet", "precision": "float32", **FIGURES},
        {**HERE, "machine": "a GPU", "network": "LocalNet", "precision": "float32", **FIGURES},
    ]
    head = {"machine": "see the machine of each row", "versions": {}, "command": "throughput run"}
    write(tmp_path / "results.json", Results("throughput", head, rows))
    page.report(tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert heads == ["# Training throughput", "## a machine", "## a GPU"]
    assert "Voxels: 64 x 64 x 64; pairs per step: 1; CPU threads: 2." in text
    assert text.count("| LocalNet | float32 | 1,234,567 | 4 | 0.25 | 1.00 |") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--networks", "VoxelMorf"], "there is no 'VoxelMorf'; choose from PyramidCascade"),
        (["--precisions", "float16"], "there is no 'float16'; choose from float32, bfloat16"),
    ],
)
def test_unknown_names_are_reported(options: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=message):
        main(["throughput", "run", "--out", str(tmp_path), *options])


def test_a_grid_that_no_network_takes_is_reported() -> None:
    job = a_job(shape=[64, 60, 64])
    with pytest.raises(SystemExit, match="three multiples of 32"):
        child.where(job)


def test_a_process_measures_itself(tmp_path: Path) -> None:
    command = ["throughput", "run", "--out", str(tmp_path), "--shape", "32,32,32"]
    command += ["--threads", "1"]
    command += ["--networks", "PyramidCascade LNCC", "--precisions", "bfloat16"]
    main([*command, "--steps", "1", "--repeats", "1"])
    (row,) = read(tmp_path).rows
    assert row["pairs_per_s"] == pytest.approx(1 / row["step_s"], rel=1e-2)
    assert row["parameters"] > 100_000
    assert 0.2 < row["peak_gb"] < 8
    assert "torch" in row["machine"]
