"""The page about a training: its facts, means of the losses, validation and curves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("ignite")

from scripts.bench.__main__ import main
from scripts.bench.studies import training
from stn3d.nets.pyramid import PyramidCascade
from stn3d.nets.weights import save_weights

COMMAND = "stn3d train configs/train.yaml spatial_dims=2 epochs=30"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A training of 30 epochs with 10 iterations each, whose 17th epoch was the best."""
    folder = tmp_path / "run"
    folder.mkdir()
    lines: list[dict[str, object]] = []
    for i in range(5, 301, 5):
        step = {"loss": 100 / i, "truth": 90 / i, "dice": 10 / i}
        rate = {"learning_rates": [0.001 - i * 1e-6] * 2, "seconds": 36.0 * i, "samples_per_s": 2}
        lines.append({"iteration": i, **step, **rate})
        if i % 10 == 0:
            figures = {"val_truth_error_mm": 1 + abs(i - 170) / 100, "val_dice": float("nan")}
            lines.append({"iteration": i, "validation": figures})
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    network = PyramidCascade(2, 1, [4, 8], [0, 8], [1, 1], [1, 1], [0, 1])
    preprocessing = {"spacing_mm": 2.0, "shape": [64, 48]}
    record = {"data": "random shapes", "seed": 7, "batch_size": 2, "iterations": 170}
    record["versions"] = {"python": "3.11", "torch": "2.13"}
    save_weights(folder / "model.safetensors", network, preprocessing, record)
    return folder


def report(run: Path, out: Path) -> str:
    named = ["--name", "small", "--command", COMMAND, "--trained-on", "a machine"]
    main(["training", "run", "--run", str(run), *named, "--out", str(out)])
    return (out / "README.md").read_text(encoding="utf-8")


def test_the_page_holds_what_repeats_the_training_and_its_curves(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    text = report(run, tmp_path / "out")
    assert f"    {COMMAND}\n" in text
    for key, value in {
        "machine": "a machine",
        "working grid": "64 x 48 voxels of 2 mm",
        "seed": "7",
        "iterations": "300, of 2 samples each",
        "hours": "3.00, without validation",
        "samples per second": "2.00",
        "learning rate": "maximum 0.000995, at the end 0.0007",
        "versions": "python 3.11, torch 2.13",
    }.items():
        assert f"| {key} | {value} |" in text
    assert "of iteration 170" in text
    assert "| up to iteration | loss | truth | dice |" in text
    first = sum(100 / i for i in range(5, 31, 5)) / 6
    assert f"| 30 | {first:.4g} |" in text
    assert "| **170** | **1** | **nan** |" in text
    assert "![Loss and validation curves](plot.svg)" in text
    drawing = (tmp_path / "out" / "plot.svg").read_text(encoding="utf-8")
    for title in ("loss, training", "truth, training", "truth error mm, validation"):
        assert f">{title}<" in drawing


def test_many_epochs_are_thinned_but_first_best_and_last_stay(run: Path) -> None:
    _, epochs, trained = training.read_run(run)
    rows = training.validations(epochs, trained.record["iterations"])
    shown = [int(row[0].strip("*")) for row in rows[1:]]
    assert {10, 170, 300} <= set(shown)
    assert len(shown) <= training.SHOWN_EPOCHS + 3
    assert shown == sorted(shown)


def test_equal_runs_give_equal_bytes(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report(run, tmp_path / "a")
    report(run, tmp_path / "b")
    for name in ("README.md", "plot.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_running_means_look_back() -> None:
    assert training.running_means([4.0, 2.0, 0.0, 7.0], 2) == [4.0, 3.0, 1.0, 3.5]


def test_a_folder_without_a_training_is_reported(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no history"):
        training.read_run(tmp_path / "nowhere")
    (run / "model.safetensors").unlink()
    with pytest.raises(SystemExit, match="written after the first epoch"):
        training.read_run(run)
