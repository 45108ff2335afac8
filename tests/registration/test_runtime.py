"""Timings, progress and threads of a run."""

from __future__ import annotations

import pytest
import torch

from stn3d.errors import InputError
from stn3d.registration.runtime import Step, Tracker, device_of, limited_threads
from stn3d.registration.stages import ProgressEvent


def test_the_fraction_follows_the_work_and_never_falls() -> None:
    seen: list[ProgressEvent] = []
    tracker = Tracker(seen.append)
    tracker(ProgressEvent("read", 0.5))  # before there is a plan
    tracker.plan([Step("rigid", 1, True), Step("deformable", 7, True), Step("warp", 2)])
    for step, done in (("rigid", 0), ("rigid", 1), ("deformable", 0.5), ("deformable", 0.25)):
        tracker(ProgressEvent(step, done))
    tracker(ProgressEvent("warp", 0))
    tracker(ProgressEvent("warp", 1))
    expected = [0, 0, 0.1, 0.45, 0.45, 0.8, 1]
    assert [event.fraction for event in seen] == pytest.approx(expected)
    stages = [(event.stage, event.stages) for event in seen]
    assert stages == [(0, 0), (1, 2), (1, 2), (2, 2), (2, 2), (0, 0), (0, 0)]


def test_a_new_plan_keeps_what_is_done() -> None:
    seen: list[ProgressEvent] = []
    tracker = Tracker(seen.append)
    tracker.plan([Step("rigid", 1, True), Step("affine", 1, True), Step("deformable", 2, True)])
    tracker(ProgressEvent("affine", 1))
    tracker.plan([Step("rigid", 3, True), Step("warp", 1)])
    tracker(ProgressEvent("rigid", 0))
    tracker(ProgressEvent("rigid", 1))
    assert [event.fraction for event in seen] == pytest.approx([0.5, 0.5, 0.875])
    assert [(event.stage, event.stages) for event in seen] == [(2, 3), (3, 3), (3, 3)]


def test_every_level_keeps_its_first_and_last_loss() -> None:
    tracker = Tracker()
    for spacing, iteration, loss in ((4.0, 1, 0.9), (4.0, 2, 0.5), (2.0, 1, 0.6)):
        event = ProgressEvent("rigid", 0, spacing_mm=spacing, iteration=iteration, loss=loss)
        tracker(event)
    tracker(ProgressEvent("warp", 0))
    keys = ("spacing_mm", "first_loss", "last_loss", "evaluations")
    assert [one["stage"] for one in tracker.levels] == ["rigid", "rigid"]
    assert [tuple(one[key] for key in keys) for one in tracker.levels] == [
        (4.0, 0.9, 0.5, 2),
        (2.0, 0.6, 0.6, 1),
    ]


def test_steps_are_timed_and_begun() -> None:
    seen: list[ProgressEvent] = []
    tracker = Tracker(seen.append)
    for name in ("metrics", "warp", "metrics"):
        with tracker.step(name):
            pass
    assert list(tracker.timings_s) == ["metrics", "warp"]
    assert [event.step for event in seen] == ["metrics", "warp", "metrics"]


def test_a_step_that_ends_has_done_its_work() -> None:
    seen: list[ProgressEvent] = []
    tracker = Tracker(seen.append)
    tracker.plan([Step("initialise", 1), Step("rigid", 3, True)])
    with tracker.step("initialise"):
        pass
    tracker.plan([Step("rigid", 3, True)])
    tracker(ProgressEvent("rigid", 0.5))
    assert [event.fraction for event in seen] == pytest.approx([0, 0.625])


def test_threads_are_put_back_after_a_fault() -> None:
    before = torch.get_num_threads()

    def fail() -> None:
        with limited_threads(before + 1):
            assert torch.get_num_threads() == before + 1
            raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        fail()
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("count", [0, -1, 1025, 2**70])
def test_absurd_numbers_of_threads_are_refused(count: int) -> None:
    with (
        pytest.raises(InputError, match=r"the number of threads is -?\d+; give one from 1 to 1024"),
        limited_threads(count),
    ):
        pytest.fail("the body must not run")


def test_a_gpu_that_is_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def gpus(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    gpus(2)
    assert device_of("auto") == torch.device("cuda")
    assert device_of("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InputError, match="2 CUDA devices, numbered from 0 to 1"):
        device_of("cuda:2")
    gpus(1)
    with pytest.raises(InputError, match="finds 1 CUDA device, numbered from 0 to 0; use cpu"):
        device_of("cuda:1")
    gpus(0)
    assert device_of("auto") == torch.device("cpu")
    for name in ("cuda", "cuda:0"):
        with pytest.raises(InputError, match=f"--device {name} .* no CUDA device; use cpu or auto"):
            device_of(name)
