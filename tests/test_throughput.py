"""The throughput of training: each network trains, rows are kept by place, and the page."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("ignite")

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import throughput  # noqa: E402
from throughput_cases import CONTENDERS  # noqa: E402

from stn3d.train import prepare_pair_batch  # noqa: E402
from stn3d.train.config import read_config  # noqa: E402

HERE = {"machine": "a machine", "shape": [64, 64, 64], "batch_size": 1, "threads": 2}
FIGURES = {"parameters": 1234567, "step_s": 0.25, "pairs_per_s": 4.0, "peak_gb": 1.0}


def config_of(edge: int) -> Any:
    config = read_config([throughput.CONFIG])
    config["shape"], config["shapes"], config["held_out"] = [edge] * 3, 2, 1
    return config


# MONAI's own, of its Warp and of its regularities.
@pytest.mark.filterwarnings("ignore:monai.networks.blocks.Warp:UserWarning")
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")
@pytest.mark.parametrize("name", CONTENDERS)
def test_every_network_learns_from_a_batch(name: str) -> None:
    config = config_of(64 if "Cascade affine" in name else 32)
    pair, batch = prepare_pair_batch(throughput.synthetic(config, 1)[0], torch.device("cpu"))
    contender = CONTENDERS[name](config)
    loss = contender.loss(contender.answer(pair), batch)
    loss.backward()
    slopes = [p.grad for p in contender.network.parameters() if p.grad is not None]
    assert loss.isfinite()
    assert any(float(slope.abs().max()) > 0 for slope in slopes)
    assert all(bool(slope.isfinite().all()) for slope in slopes)


def test_a_step_is_timed_after_some_that_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 6.0, 10.0, 13.0])  # two runs, of 6 and 3 seconds
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(clock))
    seen: list[int] = []
    args = throughput.argparse.Namespace(device="cpu", steps=3, repeats=2)
    batches: Any = [(0, {}), (1, {})]
    assert throughput.best_seconds(lambda pair, _: seen.append(pair), batches, args) == 1.0
    assert seen == [0, 1, 0, 1, 0, 0, 1, 0]


def test_rows_are_kept_by_machine_and_grid_and_failures_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []
    fails = [("VoxelMorph", "bfloat16")]

    def child(what: str, precision: str, args: Any) -> dict[str, Any]:
        if what == "where":
            return {**HERE, "shape": [int(n) for n in args.shape.split(",")]}
        asked.append((what, precision))
        return {"failed": "no memory"} if (what, precision) in fails else dict(FIGURES)

    monkeypatch.setattr(throughput, "child", child)
    command = ["--out", str(tmp_path / "t"), "--networks", "LocalNet,VoxelMorph"]
    throughput.main(command)
    every = [(n, p) for n in ("LocalNet", "VoxelMorph") for p in throughput.PRECISIONS]
    assert asked == every
    assert "- VoxelMorph, bfloat16, failed: no memory" in (tmp_path / "t.md").read_text()
    fails.clear()
    throughput.main(command)
    assert asked[4:] == [("VoxelMorph", "bfloat16")]
    throughput.main([*command, "--shape", "96,64,64", "--precisions", "float32"])
    assert asked[5:] == [("LocalNet", "float32"), ("VoxelMorph", "float32")]
    throughput.main([*command, "--again"])
    assert asked[7:] == every
    rows = json.loads((tmp_path / "t.json").read_text())
    assert len(rows) == 6
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.json", "t.md"]


def test_the_page_has_a_table_for_each_place() -> None:
    rows = [
        {**HERE, "network": "LocalNet", "precision": "float32", **FIGURES},
        {**HERE, "machine": "a GPU", "network": "LocalNet", "precision": "float32", **FIGURES},
    ]
    text = throughput.markdown(rows)
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert heads == ["# Training throughput", "## a machine", "## a GPU"]
    assert "Voxels: 64 x 64 x 64; pairs a step: 1; CPU threads: 2." in text
    assert text.count("| LocalNet | float32 | 1,234,567 | 4 | 0.25 | 1.00 |") == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--networks", "VoxelMorf"], "there is no 'VoxelMorf'; choose among PyramidCascade"),
        (["--precisions", "float16"], "there is no 'float16'; choose among float32, bfloat16"),
    ],
)
def test_unknown_names_are_told(options: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=told):
        throughput.main(["--out", str(tmp_path / "t"), *options])


def test_a_grid_that_no_network_takes_is_told() -> None:
    args = throughput.argparse.Namespace(device="cpu", shape="64,60,64", batch_size=1, threads=1)
    with pytest.raises(SystemExit, match="three multiples of 32"):
        throughput.where(args)


@pytest.mark.slow
def test_a_process_measures_itself(tmp_path: Path) -> None:
    command = ["--out", str(tmp_path / "t"), "--shape", "32,32,32", "--threads", "1"]
    command += ["--networks", "PyramidCascade LNCC", "--precisions", "bfloat16"]
    throughput.main([*command, "--steps", "1", "--repeats", "1"])
    (row,) = json.loads((tmp_path / "t.json").read_text())
    assert row["pairs_per_s"] == pytest.approx(1 / row["step_s"], rel=1e-2)
    assert row["parameters"] > 100_000
    assert 0.2 < row["peak_gb"] < 8
    assert "torch" in row["machine"]
