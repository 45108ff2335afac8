"""Training: resumed runs equal uninterrupted ones, several processes equal one, states hold."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers.paths import ROOT

pytest.importorskip("ignite")

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from stn3d.errors import InputError
from stn3d.losses.chart import ChartLoss
from stn3d.nets.blocks import full_size
from stn3d.nets.weights import load_weights
from stn3d.train import (
    Averaged,
    ChartFigures,
    Mean,
    PairFigures,
    Stages,
    load_state,
    lower_is_better,
    parameter_groups,
    prepared_folder,
    read_history,
    read_record,
    run_config,
    save_state,
    warmup_cosine,
    world_transform,
)
from stn3d.train.config import parse_change, read_config

CONFIGS = ROOT / "configs"
TRAIN = CONFIGS / "train.yaml"

# A network and data so small that an iteration takes some hundredths of a second.
TINY: dict[str, Any] = {
    "spatial_dims": 2,
    "shape": [24, 24],
    "spacing_mm": 8.0,
    "num_workers": 0,
    "shapes": 4,
    "amp": False,
    "val_samples": 2,
    "epochs": 2,
    "epoch_length": 5,
    "save_interval": 3,
    "log_interval": 2,
    "warmup": 3,
    "network_def.channels": [4, 8],
    "network_def.hidden": [4, 8],
    "network_def.radii": [1, 1],
    "network_def.repeats": [1, 1],
    "network_def.steps": [1, 1],
    "network_def.dropout": 0.2,
    "average_decay": 0.9,
    "learning_rate": 0.01,
    "device": "cpu",
}
KILLED = """
import json, sys, torch
torch.set_num_threads(1)
from stn3d.train import run_config
run_config([sys.argv[1]], json.loads(sys.argv[2]))
"""


def train(folder: Path, **changes: Any) -> Path:
    """A short run in this process."""
    run_config([TRAIN], TINY | {"output_dir": str(folder)} | changes)
    return folder


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ten iterations that nothing interrupted."""
    return train(tmp_path_factory.mktemp("whole"))


def weights_of(folder: Path, name: str = "last.ckpt.safetensors") -> dict[str, torch.Tensor]:
    return load_file(folder / name)


def require_equal(a: Path, b: Path) -> None:
    first, second = weights_of(a), weights_of(b)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_a_run_leaves_what_it_promises(whole_run: Path) -> None:
    names = {file.name.split(".")[0] for file in whole_run.iterdir()}
    assert names == {"last", "best", "model", "history", "events"}
    trained = load_weights(whole_run / "model.safetensors")
    assert trained.preparation == {"spacing_mm": 8.0, "shape": [24, 24]}
    assert trained.record["data"] == "random shapes"
    assert math.isfinite(trained.record["validation"]["val_truth_error_mm"])
    lines = read_history(whole_run / "history.jsonl")
    logged = [line["iteration"] for line in lines if "loss" in line]
    assert logged == [2, 4, 6, 8, 10]
    assert [line["iteration"] for line in lines if "validation" in line] == [5, 10]
    assert {"truth", "dice", "diffusion", "seconds", "samples_per_s"} <= lines[0].keys()


def test_the_average_lies_between_the_weights(whole_run: Path) -> None:
    state = weights_of(whole_run)
    network = {k.removeprefix("network/"): v for k, v in state.items() if k.startswith("network/")}
    apart = [not torch.equal(v, state[f"average/{k}"]) for k, v in network.items()]
    assert any(apart)
    # the validation and the file of weights go by the average of the best epoch
    best = weights_of(whole_run, "best.ckpt.safetensors")
    written = load_file(whole_run / "model.safetensors")
    for name, value in written.items():
        assert torch.equal(value, best[f"average/{name}"])


def test_the_same_run_gives_the_same_bytes_and_another_seed_others(
    whole_run: Path, tmp_path: Path
) -> None:
    require_equal(whole_run, train(tmp_path / "again"))
    other = weights_of(train(tmp_path / "other", seed=1))
    assert any(not torch.equal(v, other[k]) for k, v in weights_of(whole_run).items())


def test_a_killed_run_goes_on_as_if_nothing_had_been(whole_run: Path, tmp_path: Path) -> None:
    """kill -9 in the middle of an epoch, after a checkpoint that is not the epoch's end."""
    folder = tmp_path / "killed"
    changes = TINY | {"output_dir": str(folder), "epochs": 2}
    command = [sys.executable, "-c", KILLED, str(TRAIN), json.dumps(changes)]
    last = folder / "last.ckpt.safetensors"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            if last.exists() and read_record(last)["iteration"] >= 6:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        process.wait(60)
        assert process.returncode == -signal.SIGKILL, process.stderr.read()[-2000:]
    reached = read_record(last)["iteration"]
    assert 6 <= reached < 10
    (folder / ".part-0123-last.ckpt.safetensors").write_bytes(b"what a kill may leave")
    with (folder / "history.jsonl").open("a") as file:
        file.write('{"iteration": 9, "lo')
    train(folder)
    require_equal(whole_run, folder)
    assert not list(folder.glob(".part-*"))
    lines = [
        {k: v for k, v in line.items() if k in ("iteration", "validation")}
        for line in read_history(folder / "history.jsonl")
    ]
    expected = [
        {k: v for k, v in line.items() if k in ("iteration", "validation")}
        for line in read_history(whole_run / "history.jsonl")
    ]
    assert lines == expected


@pytest.mark.parametrize("stop", [3, 5, 8])
def test_a_run_resumed_from_any_checkpoint_is_the_same(
    whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Interrupted in an epoch, at its end, and in the next; with one worker that reads ahead."""

    class Interrupted(Exception):
        pass

    from stn3d.train.handlers import Checkpoints

    save = Checkpoints._save

    def save_and_stop(self: Checkpoints, engine: Any, name: str) -> None:
        save(self, engine, name)
        if engine.state.iteration >= stop and name.startswith("last"):
            raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "_save", save_and_stop)
        patch.setitem(TINY, "save_interval", stop)
        with pytest.raises((Interrupted, RuntimeError)):
            train(tmp_path)
    assert read_record(tmp_path / "last.ckpt.safetensors")["iteration"] == stop
    train(tmp_path, num_workers=1)
    require_equal(whole_run, tmp_path)


def test_a_finished_run_can_be_prolonged_and_a_fresh_one_forgets(
    whole_run: Path, tmp_path: Path
) -> None:
    train(tmp_path, epochs=1)
    before = weights_of(tmp_path)
    train(tmp_path, epochs=1)  # there is nothing left to do
    assert all(torch.equal(v, before[k]) for k, v in weights_of(tmp_path).items())
    train(tmp_path, epochs=2)
    assert read_record(tmp_path / "last.ckpt.safetensors")["iteration"] == 10
    train(tmp_path, resume=False)
    require_equal(whole_run, tmp_path)


def test_a_checkpoint_of_another_run_is_refused(
    whole_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    saved = (whole_run / "last.ckpt.safetensors").read_bytes()
    (tmp_path / "last.ckpt.safetensors").write_bytes(saved)
    with pytest.raises(InputError, match=r"epochs of 5 iterations, and this one has 4"):
        train(tmp_path, epoch_length=4)
    with pytest.raises(InputError, match=r"the state of network .* is of another network"):
        train(tmp_path, **{"network_def.channels": [4, 6]})
    assert "Traceback" not in "".join(capfd.readouterr())


def test_early_stop_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # with a learning rate of 0 and no average no epoch is better than the first
    still = {"learning_rate": 0.0, "average_decay": 0.0, "patience": 2, "epochs": 9}
    train(tmp_path, epoch_length=1, **still)
    assert read_record(tmp_path / "last.ckpt.safetensors")["iteration"] == 3
    train(tmp_path, epoch_length=1, **still)
    assert read_record(tmp_path / "last.ckpt.safetensors")["iteration"] == 3


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    two = {"_target_": "stn3d.data.Endless", "dataset": "@validate::dataset"}  # to know by heart
    changes = {"train.dataset": two, "network_def.dropout": 0.0, "average_decay": 0.0}
    train(tmp_path, epochs=1, epoch_length=60, **changes)
    lines = [line for line in read_history(tmp_path / "history.jsonl") if "loss" in line]
    first, last = (sum(x["loss"] for x in part) for part in (lines[:5], lines[-5:]))
    assert last < 0.8 * first


def test_it_goes_on_from_weights(whole_run: Path, tmp_path: Path) -> None:
    pretrained = whole_run / "model.safetensors"
    train(
        tmp_path,
        epochs=1,
        epoch_length=1,
        pretrained=str(pretrained),
        learning_rate=0.0,
        average_decay=0.0,
    )
    begun, given = load_file(tmp_path / "model.safetensors"), load_file(pretrained)
    assert all(torch.equal(v, given[k]) for k, v in begun.items())
    with pytest.raises(InputError, match="make network_def the same"):
        train(tmp_path / "b", pretrained=str(pretrained), **{"network_def.channels": [4, 6]})


def test_a_head_may_be_added_to_weights_or_left_out(tmp_path: Path) -> None:
    once = {"epochs": 1, "epoch_length": 1, "average_decay": 0.0, "network_def.steps": [0, 1]}
    less = {"network_def.hidden": [0, 8]}
    train(tmp_path / "a", **once, **less)
    files = {run: tmp_path / run / "model.safetensors" for run in "abc"}
    train(tmp_path / "b", **once, pretrained=str(files["a"]), learning_rate=0.0)
    train(tmp_path / "c", **once, **less, pretrained=str(files["b"]), learning_rate=0.0)
    first, more, again = (load_weights(file).network for file in files.values())
    pair = torch.rand(1, 2, 24, 24)
    assert len(more.stages(pair)) == len(first.stages(pair)) + 1
    assert torch.allclose(more(pair), first(pair), atol=1e-6)
    assert torch.equal(again(pair), first(pair))


def test_bfloat16_on_the_cpu(tmp_path: Path) -> None:
    train(tmp_path, amp=True, epochs=1, epoch_length=2)
    seen = []
    network = nn.Conv2d(1, 1, 3)
    network.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    Stages(network, bfloat16=True)(torch.ones(1, 1, 4, 4))
    Stages(network, bfloat16=False)(torch.ones(1, 1, 4, 4))
    assert seen == [torch.bfloat16, torch.float32]


PER_SAMPLE = """
class Loss:  # its mean over a batch is the mean over its samples, whatever their weights
    def __call__(self, stages, batch):
        error = ((stages[-1] - batch["displacement_vox"]) ** 2).mean()
        return error, {"error": float(error.detach())}
"""
START = """
import sys, torch
torch.set_num_threads(1)
from stn3d.train import run_config
from stn3d.train.config import parse_change
run_config(sys.argv[1:3], dict(map(parse_change, sys.argv[3:])))
"""


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun with gloo on the CPU, against one; without dropout, which is each one's own."""
    (tmp_path / "per_sample.py").write_text(PER_SAMPLE)
    (tmp_path / "start.py").write_text(START)
    monkeypatch.syspath_prepend(str(tmp_path))
    same = {key: value for key, value in TINY.items() if key not in ("device", "average_decay")}
    same |= {"network_def.dropout": 0.0, "epochs": 1, "epoch_length": 4, "warmup": 0}
    same |= {"loss": {"_target_": "per_sample.Loss"}, "optimizer._target_": "torch.optim.SGD"}
    both, alone = tmp_path / "both", tmp_path / "alone"
    words = [f"{k}={json.dumps(v)}" for k, v in same.items()] + [f"output_dir={both}"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(tmp_path / "start.py"), str(TRAIN), str(CONFIGS / "multi_gpu_train.yaml")]
    done = subprocess.run(
        [*command, *words],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    run_config([TRAIN], same | {"output_dir": str(alone), "batch_size": 2, "device": "cpu"})
    first, second = weights_of(both), weights_of(alone)
    for name, value in first.items():
        if name.startswith("network/"):
            torch.testing.assert_close(value, second[name], atol=1e-6, rtol=1e-4)
    assert read_record(both / "last.ckpt.safetensors")["iteration"] == 4
    assert len(list(both.glob("events.*"))) == 1
    # and the weights have moved: another seed of the data alone ends elsewhere
    other = tmp_path / "other"
    run_config([TRAIN], same | {"output_dir": str(other), "device": "cpu", "train.dataset.seed": 9})
    elsewhere = weights_of(other)
    apart = [float((v - elsewhere[k]).abs().max()) for k, v in second.items() if "network/" in k]
    assert max(apart) > 1e-4


# -- the parts ------------------------------------------------------------------------------------


class Twin:
    """Something with a state of every kind."""

    def __init__(self, value: float) -> None:
        self.state: dict[Any, Any] = {
            0: {"step": torch.tensor(value), "moments": torch.full((2, 3), value)},
            "lr": value,
            "betas": [0.9, 0.999],
            "flags": [True, None, "text", math.inf],
        }

    def state_dict(self) -> dict[Any, Any]:
        return self.state

    def load_state_dict(self, state: dict[Any, Any]) -> None:
        self.state = state


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    saved, loaded, path = Twin(1 / 3), Twin(0), tmp_path / "a.safetensors"
    save_state(path, {"twin": saved}, {"iteration": 7})
    assert load_state(path, {"twin": loaded}) == {"iteration": 7}
    assert loaded.state["lr"] == 1 / 3
    assert list(loaded.state) == [0, "lr", "betas", "flags"]
    assert loaded.state["flags"] == [True, None, "text", math.inf]
    assert torch.equal(loaded.state[0]["moments"], saved.state[0]["moments"])
    with pytest.raises(InputError, match="holds the state of twin, and this run has other"):
        load_state(path, {"other": loaded})


def test_files_that_are_no_states_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no state"):
        read_record(tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("no safetensors")
    with pytest.raises(InputError, match="no safetensors file"):
        read_record(tmp_path / "text")
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="no checkpoint that this stn3d reads"):
        read_record(tmp_path / "other.safetensors")


@pytest.mark.parametrize("failures", [2, 9])
def test_a_state_that_is_replaced_while_it_is_read_is_read_again(
    failures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.safetensors"
    save_state(path, {"network": nn.Linear(2, 2)}, {"iteration": 7})
    left = iter(range(failures))

    def replaced(*args: Any, **options: Any) -> Any:
        if next(left, None) is not None:
            raise RuntimeError("file size is smaller than the required mapping size")
        return safe_open(*args, **options)

    monkeypatch.setattr("stn3d.train.state.safe_open", replaced)
    if failures < 5:
        assert read_record(path)["iteration"] == 7
    else:
        with pytest.raises(InputError, match="smaller than the required"):
            read_record(path)


def test_parameter_groups_have_rates_and_decay_of_their_own() -> None:
    network = nn.ModuleDict({"localisation": nn.Linear(2, 2), "rest": nn.Linear(2, 2)})
    groups = parameter_groups(network, 1e-3, {"localisation": 1e-4}, 0.01)
    told = {(g["lr"], g["weight_decay"], tuple(p.ndim for p in g["params"])) for g in groups}
    assert told == {(1e-4, 0.01, (2,)), (1e-4, 0.0, (1,)), (1e-3, 0.01, (2,)), (1e-3, 0.0, (1,))}
    with pytest.raises(InputError, match="did you mean 'localisation'"):
        parameter_groups(network, 1e-3, {"localization": 1e-4})


def test_the_learning_rate_warms_up_and_falls() -> None:
    factor = warmup_cosine(100, 10, 0.1)
    values = [factor(i) for i in range(120)]
    assert values[:2] == [0.1, 0.2]
    assert values[9] == 1.0
    assert all(a >= b for a, b in itertools.pairwise(values[9:]))
    assert values[100] == values[119] == pytest.approx(0.1)


def test_an_average_follows_its_network() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    average = Averaged(network, 0.9)
    nn.init.ones_(network.weight)
    for i in range(1, 100):
        average.follow(i)
    assert 0.99 < float(average.network.weight.detach()) < 1
    assert Averaged(network, 0.0).network is network
    with pytest.raises(InputError, match="average_decay is 1"):
        Averaged(network, 1.0)


def test_figures_of_pairs() -> None:
    shape = (6, 7)
    truth = torch.zeros(2, 2, *shape)
    truth[:, 0] = 1.0
    labels = torch.zeros(2, 1, *shape, dtype=torch.int16)
    labels[:, :, 3:5, 2:5] = 4
    batch = {
        "fixed": torch.ones(2, 1, *shape),
        "fixed_weight": torch.ones(2, 1, *shape),
        "displacement_vox": truth,
        "truth_weight": torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1).expand(2, 1, *shape),
        "fixed_labels": labels,
        "moving_labels": torch.roll(labels, 1, dims=2),
        "fixed_points": torch.tensor([[[1.0, 1.0]], [[2.0, 2.0]]]),
        "moving_points": torch.tensor([[[2.0, 1.0]], [[4.0, 2.0]]]),
        "points_weight": torch.ones(2, 1),
    }
    figures = PairFigures(lambda stages, _: (stages[-1].sum(), {}), 2.0)
    exact = figures({"pred": (truth,), "label": batch})
    assert exact["truth_error_mm"][0] == 0
    assert math.isnan(exact["truth_error_mm"][1])
    assert exact["dice"] == [1.0, 1.0]
    assert exact["landmark_error_mm"] == [0.0, 2.0]
    assert exact["folding_pct"] == [0.0, 0.0]
    still = figures({"pred": (torch.zeros_like(truth),), "label": batch})
    assert still["truth_error_mm"][0] == 2.0
    assert still["dice"][0] < 1
    folded = torch.zeros_like(truth)
    folded[:, 0] = -2 * torch.arange(6.0)[:, None]
    assert figures({"pred": (folded,), "label": batch})["folding_pct"] == [100.0, 100.0]


def test_a_coarse_answer_is_judged_on_the_whole_grid() -> None:
    # a level of half the size, padded at the end: 4 voxels for 7
    coarse = torch.full((1, 2, 4, 4), 1.5)
    assert torch.equal(full_size(coarse, (7, 8)), torch.full((1, 2, 7, 8), 3.0))
    assert full_size(torch.zeros(1, 2, 8, 8), (7, 8)).shape == (1, 2, 7, 8)


def test_chart_loss_and_figures() -> None:
    shape = (5, 8)  # padded to 8 voxels on the coarsest level
    coordinates = torch.rand(2, 2, *shape, generator=torch.Generator().manual_seed(0))
    weight = torch.zeros(2, 1, *shape)
    weight[..., :4] = 1.0
    batch = {"coordinates": coordinates, "coordinates_weight": weight}
    loss, exact = ChartLoss(), []
    for level in ((2, 2), (4, 4)):
        places, shares = loss.targets(torch.zeros(2, 3, *level), batch)
        exact.append(torch.cat([places, 40 * (shares - 0.5)], dim=1))
    places, shares = loss.targets(exact[-1], batch)
    assert shares[0, 0, :, 0].tolist() == [1.0, 1.0, 0.5, 0.0]
    assert shares[0, 0, 0].tolist() == [1.0, 1.0, 0.0, 0.0]
    torch.testing.assert_close(places[0, 0, 0, 0], coordinates[0, 0, :2, :2].mean())
    torch.testing.assert_close(places[0, 0, 2, 0], coordinates[0, 0, 4, :2].mean())
    low, terms = loss(exact, batch)
    assert terms["coordinates_mm"] == 0
    wrong = [stage.clone() for stage in exact]
    wrong[1][:, 0] += 0.05
    high, terms = loss(wrong, batch)
    assert terms["coordinates_mm"] == pytest.approx(5.0, rel=1e-4)
    both = [stage.clone() for stage in wrong]
    both[0][:, 0] += 0.05
    highest = loss(both, batch)[0]
    assert float(highest - high) == pytest.approx(0.5 * float(high - low), rel=1e-3)
    far = [stage.clone() for stage in exact]
    far[1][:, :2, :, 2:] = 7.0  # beyond the tissue coordinates are free
    assert float(loss(far, batch)[0]) == float(low)
    told = ChartFigures(loss)({"pred": wrong, "label": batch})
    assert told["coordinate_error_mm"] == pytest.approx([5.0, 5.0], rel=1e-4)
    assert told["tissue_dice"] == [1.0, 1.0]


def test_a_mean_leaves_out_what_is_unknown() -> None:
    mean = Mean("x")
    engine = SimpleNamespace(state=SimpleNamespace(output={"x": [1.0, math.nan]}, metrics={}))
    mean._reset(engine)
    mean._add(engine)
    engine.state.output = {"x": [4.0]}
    mean._add(engine)
    mean._tell(engine, "x")
    assert engine.state.metrics == {"x": 2.5}
    assert lower_is_better(1.0, math.nan)
    assert not lower_is_better(2.0, 1.0)


def test_voxels_become_millimetres() -> None:
    spacing = torch.diag(torch.tensor([2.0, 2.0, 1.0]).double())
    field = torch.zeros(2, 5, 5)
    field[0] = 1.5
    shift = torch.eye(3).double()
    shift[1, 2] = 10.0
    transform = world_transform(field, spacing, shift)
    moved = transform(torch.tensor([[4.0, 4.0]]).double())
    assert moved.tolist() == [[7.0, 14.0]]


def test_a_folder_is_cleared_only_where_asked(tmp_path: Path) -> None:
    for name in ("last.ckpt.safetensors", "history.jsonl", ".part-1-a", "mine.txt"):
        (tmp_path / name).write_text("x")
    prepared_folder(tmp_path, resume=True)
    assert {f.name for f in tmp_path.iterdir()} == {
        "last.ckpt.safetensors",
        "history.jsonl",
        "mine.txt",
    }
    prepared_folder(tmp_path, resume=False)
    assert [f.name for f in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match="cannot make the folder"):
        prepared_folder(tmp_path / "mine.txt" / "folder")


# -- the short door -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("epoch", "epochs"),
        ("train.dataset.sed", "train.dataset.seed"),
        ("train#trainer#max_epoch", "train.trainer.max_epochs"),
        ("network_def.dropuot", "network_def.dropout"),
        ("network_def.chanels", "network_def.channels"),
        ("learning_rates", "learning_rate"),
    ],
)
def test_a_wrong_key_is_answered_with_the_nearest(key: str, right: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"did you mean '{right}'"):
        run_config([TRAIN], {key: 1, "output_dir": str(tmp_path / "never")})
    assert not (tmp_path / "never").exists()


def test_values_of_changes() -> None:
    texts = ["a=1e-4", "b=[1, 2]", "c.d=true", "e=", "f=text=more"]
    assert dict(map(parse_change, texts)) == {
        "a": 1e-4,
        "b": [1, 2],
        "c.d": True,
        "e": "",
        "f": "text=more",
    }
    with pytest.raises(InputError, match="no key=value"):
        parse_change("epochs")


def test_configs_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no config"):
        read_config([tmp_path / "none.yaml"])
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(InputError, match="is broken"):
        read_config([tmp_path / "broken.yaml"])


def test_the_command(tmp_path: Path) -> None:
    from typer import Typer
    from typer.testing import CliRunner

    from stn3d.cli.training import train as command

    app = Typer()
    app.command()(command)
    words = [f"{key}={json.dumps(value)}" for key, value in TINY.items()]
    words += ["epochs=1", "epoch_length=2", f"output_dir={tmp_path}"]

    def lines(*options: str) -> int:
        done = CliRunner().invoke(app, [str(TRAIN), *words, *options], catch_exceptions=False)
        assert done.exit_code == 0
        return len(list(tmp_path.glob("events.*")))

    assert lines() == 1
    assert lines() == 2  # goes on, with a file of events more
    assert lines("--fresh") == 1
    for wrong, message in ((["epochs=2"], "no config is given"), ([str(TRAIN), "a=1"], "no key")):
        with pytest.raises(InputError, match=message):
            CliRunner().invoke(app, wrong, catch_exceptions=False)
