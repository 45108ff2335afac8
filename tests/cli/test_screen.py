"""What is printed: wrapped and coloured on a terminal, plain elsewhere."""

from __future__ import annotations

import logging
import re
import warnings

import pytest

import stn3d
from stn3d.cli import screen
from stn3d.cli.screen import Screen
from stn3d.errors import GeometryWarning, InputError

LONG = "a sentence of many words that is far longer than a narrow terminal is wide, " * 3


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output is taken for a colour terminal of 60 columns."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.mark.usefixtures("terminal")
def test_words_wrap_on_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    screen.error(LONG)
    Screen().say(LONG)
    for text in capfd.readouterr():
        plain = re.sub(r"\x1b\[[\d;]*m", "", text)
        lines = plain.splitlines()
        assert len(lines) > 3
        assert all(len(line) <= 60 for line in lines)
        assert " ".join(plain.split()).removeprefix("stn3d: ") == LONG.strip()


def test_a_sentence_is_one_line_elsewhere(capfd: pytest.CaptureFixture[str]) -> None:
    screen.error(LONG)
    Screen().say(LONG)
    out, err = capfd.readouterr()
    assert out == LONG.strip() + "\n"
    assert err == f"stn3d: {LONG.strip()}\n"


COLOURS = {"good": "32", "check": "33", "failed": "31"}


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("status", COLOURS)
def test_the_status_has_its_colour(status: str, capfd: pytest.CaptureFixture[str]) -> None:
    Screen(quiet=True).status(status, "for a good reason.")
    out, _ = capfd.readouterr()
    assert f"quality: \x1b[1;{COLOURS[status]}m{status}\x1b[0m; for a good reason." in out


@pytest.mark.usefixtures("terminal")
def test_no_color_is_respected(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    Screen().status("good", "for a reason.")
    assert not re.search(r"\x1b\[[\d;]*3[0-7]m", capfd.readouterr().out)


def test_the_first_line_says_what_is_done(capfd: pytest.CaptureFixture[str]) -> None:
    with screen.opened("registering a to b", quiet=False, verbose=False):
        pass
    assert capfd.readouterr().err == f"stn3d {stn3d.__version__}: registering a to b\n"


def test_notes_are_shown_once_and_other_warnings_not(capfd: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        with screen.opened("doing", quiet, verbose=False):
            for _ in range(2):
                warnings.warn("look at the header.", GeometryWarning, stacklevel=1)
                warnings.warn("of a library", UserWarning, stacklevel=1)
        lines = capfd.readouterr().err.splitlines()
        assert lines == ([] if quiet else [lines[0], "note: look at the header."])


def test_quiet_leaves_the_status_line_alone(capfd: pytest.CaptureFixture[str]) -> None:
    shown = Screen(quiet=True)
    shown.say("more")
    shown.table(["", "value"], [["metric", 1]])
    shown.wrote(["a", "b"], final=False)
    assert capfd.readouterr().out == ""
    shown.status("check", "the images differ.")
    assert capfd.readouterr().out == "quality: check; the images differ.\n"
    shown.wrote(["out/a", "out/b"])
    assert capfd.readouterr().out == "wrote out/a and 1 more\n"


def test_quiet_and_verbose_exclude_each_other() -> None:
    with (
        pytest.raises(InputError, match="--quiet and --verbose"),
        screen.opened("doing", quiet=True, verbose=True),
    ):
        pass


def test_log_messages_of_the_package_are_notes(capfd: pytest.CaptureFixture[str]) -> None:
    with screen.opened("doing", quiet=False, verbose=False):
        logging.getLogger("stn3d").warning("compiling %s", "kernels")
        logging.getLogger("stn3d").info("of no interest")
    assert capfd.readouterr().err.splitlines()[1:] == ["note: compiling kernels"]
    assert logging.getLogger("stn3d").handlers == []
