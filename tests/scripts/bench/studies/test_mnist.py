"""The MNIST study: every row has its size and learns, interrupted runs continue, the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("ignite")

from scripts.bench.__main__ import main
from scripts.bench.store import read
from scripts.bench.studies.mnist import pictures, study, training
from scripts.bench.studies.mnist.networks import SHAPES, count, parts
from scripts.bench.studies.mnist.rows import PAPER, ROWS
from stn3d.nets import SpatialTransformer
from stn3d.synth.digits import DISTORTIONS
from tests.synth.test_digits import digits, write_mnist

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_built_sees_its_task_and_learns(name: str) -> None:
    row = ROWS[name]
    torch.manual_seed(0)
    network = row.build()
    batch = training.DigitBatches(digits(), row.task, 3).batch(0)
    assert batch["image"].shape[1:] == SHAPES[row.task]
    answer = network(batch["image"])
    loss = training.cross_entropy(answer, batch["label"])
    loss.backward()
    slopes = [p.grad for p in network.parameters()]
    assert all(slope is not None and bool(slope.isfinite().all()) for slope in slopes)
    for module in network.modules():  # initialised to the identity, with non-zero gradients
        if isinstance(module, SpatialTransformer) and not list(module.localisation.buffers()):
            last = list(module.localisation.head.parameters())[-1]
            assert not last.any()


def test_networks_of_a_table_have_about_the_same_number_of_parameters() -> None:
    sizes: dict[str, list[int]] = {}
    for row in ROWS.values():
        sizes.setdefault(row.table, []).append(count(row.build()))
    for table, counts in sizes.items():
        assert max(counts) < 1.06 * min(counts), table


def test_the_papers_errors_are_those_of_their_rows() -> None:
    assert ROWS["RTS: ST-CNN affine"].paper_pct == PAPER["RTS"]["ST-CNN affine"] == 0.5
    assert sum(row.paper_pct is not None for row in ROWS.values()) == 36 + 3 + 3
    network = ROWS["addition: 2x ST-CNN affine"].build()
    found = parts(network)
    assert found["parameters"] == count(network) > found["localisation"] > 0


def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    write_mnist(data, digits(60))
    write_mnist(data, digits(20), "t10k")
    return data


def train(tmp_path: Path, data: Path, name: str = "work", steps: int = 6, **more: Any) -> Path:
    options = {"--rows": "RTS: ST-CNN affine", "--steps": steps, "--batch-size": 4, **more}
    work = tmp_path / name
    flat = [str(part) for pair in options.items() for part in pair]
    common = ["--work", str(work), "--data", str(data), "--out", str(tmp_path / "out")]
    main(["mnist", "run", *common, *flat])
    return work


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "TRAINED_ON", 50)
    monkeypatch.setattr(study, "TRAINED_ON", 50)
    monkeypatch.setattr(training, "EPOCH", 2)


@pytest.mark.usefixtures("few")
def test_an_interrupted_run_ends_like_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folder(tmp_path)
    whole = train(tmp_path, data)
    batches = training.DigitBatches.batch

    def cut(self: Any, iteration: int) -> Any:
        if iteration == 5:
            raise KeyboardInterrupt
        return batches(self, iteration)

    monkeypatch.setattr(training.DigitBatches, "batch", cut)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, data, "cut")
    monkeypatch.setattr(training.DigitBatches, "batch", batches)
    assert not list((tmp_path / "cut").glob("*/result.json"))
    again = train(tmp_path, data, "cut")
    one, other = (next(work.glob("*/weights.safetensors")) for work in (whole, again))
    row = ROWS["RTS: ST-CNN affine"]
    states = [training.restored(row, path.parent).state_dict() for path in (one, other)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    done = json.loads((one.parent / "result.json").read_text(encoding="utf-8"))
    assert done["steps"] == 6
    assert 0 <= done["test_error_pct"] <= 100
    (one.parent / "result.json").write_text(json.dumps(done | {"wall_s": -1}))
    train(tmp_path, data)  # finished rows are kept
    assert [found["wall_s"] for found in read(tmp_path / "out").rows] == [-1]


@pytest.mark.usefixtures("few")
def test_trained_rows_are_reported(tmp_path: Path) -> None:
    data = folder(tmp_path)
    rows = "RTS: ST-CNN affine,sequence: recurrent*"
    train(tmp_path, data, steps=2, **{"--rows": rows})
    out = tmp_path / "out"
    page = (out / "README.md").read_text(encoding="utf-8")
    assert "## RTS: rotated by up to 45 degrees" in page
    assert "| ST-CNN affine |" in page
    assert "| 0.5 |" in page
    pictures = sorted(path.name for path in out.glob("*.png"))
    assert len(pictures) == 3
    assert all(f"({name})" in page for name in pictures)
    before = (out / "results.json").read_text(encoding="utf-8")
    main(["mnist", "report", "--out", str(out)])  # without the trainings
    assert (out / "results.json").read_text(encoding="utf-8") == before
    assert (out / "README.md").read_text(encoding="utf-8") == page


def test_rows_are_chosen_by_patterns_and_wrong_ones_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(study.chosen("R: *")) == [name for name in ROWS if name.startswith("R: ")]
    assert len(study.chosen("TC: CNN,E: FCN")) == 2
    assert all(list(study.chosen(name)) == [name] for name in ROWS)
    command = ["mnist", "run", "--work", str(tmp_path), "--data", str(tmp_path)]
    with pytest.raises(SystemExit, match="no row is called"):
        main([*command, "--rows", "Q: CNN"])
    with pytest.raises(SystemExit, match="does not exist"):
        main(command)
    with pytest.raises(SystemExit, match="Give --work"):
        main(["mnist", "run"])
    main(["mnist", "run", "--list"])
    assert capsys.readouterr().out.splitlines() == list(ROWS)


def test_a_frame_is_the_outputs_border() -> None:
    lines = pictures.frame(28, 42)
    assert len(lines) == 4
    ends = torch.cat(lines)
    assert ends.amin(0).tolist() == [-0.5, -0.5]
    assert ends.amax(0).tolist() == [27.5, 41.5]
    assert set(DISTORTIONS) >= {row.task for row in ROWS.values()}
