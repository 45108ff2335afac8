"""Progress on a terminal and elsewhere."""

from __future__ import annotations

import re
import warnings

import pytest
from rich.progress import Progress

from stn3d.cli import progress
from stn3d.cli.screen import Screen
from stn3d.errors import GeometryWarning
from stn3d.registration import progress_bar
from stn3d.registration.stages import ProgressEvent

EVENTS = [
    ProgressEvent("read", 0.0),
    ProgressEvent("rigid", 0.0, stage=1, stages=2),
    ProgressEvent("rigid", 0.1, 1, 2, 1, 1, 8.0, 1, 20, 0.75),
    ProgressEvent("rigid", 0.2, 1, 2, 1, 1, 8.0, 2, 20, 0.5),
    ProgressEvent("deformable", 0.2, stage=2, stages=2),
    ProgressEvent("deformable", 0.6, 2, 2, 1, 2, 4.0, 1, 20, 0.25),
    ProgressEvent("deformable", 0.8, 2, 2, 2, 2, 2.0, 12, 20, 0.125),
    ProgressEvent("quality_check", 1.0),
]
RIGID = "rigid, level 1 of 1, 8 mm: loss 0.75000 -> 0.50000 in 2 iterations"
FIRST = "deformable, level 1 of 2, 4 mm: loss 0.25000 -> 0.25000 in 1 iterations"
LAST = "deformable, level 2 of 2, 2 mm: loss 0.12500 -> 0.12500 in 12 iterations"


def shown(screen: Screen, capfd: pytest.CaptureFixture[str]) -> str:
    with progress.registration(screen) as show:
        for event in EVENTS:
            show(event)
    out, err = capfd.readouterr()
    assert out == ""
    return err


def test_without_a_terminal_each_level_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert shown(Screen(), capfd).splitlines() == [RIGID, FIRST, LAST]


def test_quiet_shows_no_progress(capfd: pytest.CaptureFixture[str]) -> None:
    assert shown(Screen(quiet=True), capfd) == ""


def test_verbose_shows_every_step_with_its_seconds(capfd: pytest.CaptureFixture[str]) -> None:
    lines = shown(Screen(verbose=True), capfd).splitlines()
    assert lines[0] == "reading the images, 0.0 s"
    assert f"{RIGID}, 0.0 s" in lines
    assert lines[-1] == "quality check, 0.0 s"


@pytest.mark.parametrize(("columns", "wide"), [(80, False), (120, True)])
def test_a_bar_on_a_terminal_and_lines_that_stay(
    columns: int,
    wide: bool,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(Progress, "update", _update_at_once)
    text = shown(Screen(), capfd)
    for line in (RIGID, FIRST, LAST):
        assert line in text
    assert "deformable, level 2 of 2 (2 mm)" in text
    assert " 80 %" in text
    assert "quality check" in text
    assert ("iteration 12 of 20, loss 0.1250" in text) == wide


_update = Progress.update


def _update_at_once(self: Progress, task: object, **changes: object) -> None:
    _update(self, task, **changes, refresh=True)  # type: ignore[arg-type]


def test_time_left_follows_the_share_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress_bar.time, "perf_counter", lambda: now)
    left = progress_bar.TimeLeft()
    task: object = None
    left.update(0.0)
    assert left.render(task).plain == ""  # type: ignore[arg-type]
    left.update(0.1)
    now = 110.0
    left.update(0.2)  # a tenth in ten seconds: eighty are left
    assert left.render(task).plain == "1:20 left"  # type: ignore[arg-type]
    now = 115.0  # time goes on between events
    assert left.render(task).plain == "1:15 left"  # type: ignore[arg-type]


def test_volumes_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(Progress, "update", _update_at_once)
    with progress.volumes(Screen()) as show:
        show(3, 8, 5, 0.98765)
    out, err = capfd.readouterr()
    assert out == ""
    assert "3 of 8 volumes, correlation of volume 5 0.9877" in err


def test_notes_appear_above_the_bar(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    with screen.notes(), progress.registration(screen) as show:
        show(EVENTS[0])
        warnings.warn("look at the header.", GeometryWarning, stacklevel=1)
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", capfd.readouterr().err)
    assert "\rnote: look at the header.\n" in text.replace("\r\n", "\n")
