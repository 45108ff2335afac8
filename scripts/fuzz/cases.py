"""One case by name and number: damage a file and read it, or run a random command line."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import traceback
import warnings
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from scripts.fuzz.commands import COMMANDS, Inputs, command_line, write_inputs
from scripts.fuzz.mutations import damaged
from scripts.fuzz.readers import reader
from scripts.fuzz.samples import Sample, all_samples
from stn3d.cli.app import main
from stn3d.errors import InputError

GOOD = ("read", "refused")
BAD = ("traceback", "crash", "hang", "memory", "left over")


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Args:
        name: format or command.
        number: number of the case; with name and seed it determines the case.
        outcome: one of `GOOD` and `BAD`.
        detail: the error's class, message and place, or the arguments.
        cpu_s: processor time.
        peak_mb: peak memory beyond that of the process at rest.
    """

    name: str
    number: int
    outcome: str
    detail: str = ""
    cpu_s: float = 0.0
    peak_mb: float = 0.0

    def plain(self) -> dict[str, Any]:
        """As a dictionary for JSON."""
        return asdict(self)


class Cases:
    """Runs cases in a work folder.

    Args:
        seed: seed of all cases.
        folder: work folder; each case has its own folder in it, removed afterwards.
        keep: keep the folders of the cases.
    """

    def __init__(self, seed: int, folder: Path, keep: bool = False) -> None:
        self.seed, self.folder, self.keep = seed, folder, keep

    @cached_property
    def samples(self) -> list[Sample]:
        """Samples of all formats."""
        return all_samples()

    @cached_property
    def inputs(self) -> Inputs:
        """Valid files for command lines."""
        return write_inputs(self.folder / "inputs", self.samples)

    @property
    def formats(self) -> list[str]:
        """The names of all formats."""
        return list(dict.fromkeys(sample.format for sample in self.samples))

    def run(self, name: str, number: int) -> Outcome:
        """Run a case to its end; a crash or a hang ends or blocks this process."""
        random = Random(f"{self.seed} {name} {number}")
        own = self.folder / f"{name.replace('/', '-')}-{number}"
        own.mkdir(parents=True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if name in COMMANDS:
                    return self._command(name, number, own, random)
                return self._file(name, number, own, random)
        finally:
            if not self.keep:
                shutil.rmtree(own, ignore_errors=True)

    def _file(self, name: str, number: int, own: Path, random: Random) -> Outcome:
        sample = random.choice([one for one in self.samples if one.format == name])
        path = damaged(sample, random).write(own)
        try:
            reader(name, random)(path)
        except InputError as error:
            return Outcome(name, number, "refused", _sentence(error))
        except BaseException as error:  # also panics of extensions
            return Outcome(name, number, "traceback", _place(error))
        return Outcome(name, number, "read")

    def _command(self, name: str, number: int, own: Path, random: Random) -> Outcome:
        words = command_line(name, self.inputs, self.samples, own, random)
        before = _files(own)
        try:
            code = main(words)
        except BaseException as error:
            return Outcome(name, number, "traceback", f"{_place(error)} {words}"[:600])
        new = {one for one in _files(own) - before if not _is_state(name, one)}
        # One image that cannot be segmented does not end the others, whose results are written.
        others = name == "segment" and any(one.endswith("volumes.json") for one in new)
        if any(".part-" in one for one in new) or (code == 2 and new and not others):
            return Outcome(name, number, "left over", f"{sorted(new)[:4]} {words}"[:600])
        if name == "cohort" and (hidden := _unexpected(own)):
            return Outcome(name, number, "traceback", f"{hidden} {words}"[:600])
        return Outcome(name, number, "refused" if code == 2 else "read")


def _files(folder: Path) -> set[str]:
    with contextlib.suppress(OSError):
        return {os.path.join(at, one) for at, _, names in os.walk(folder) for one in names}
    return set()


def _is_state(command: str, file: str) -> bool:
    """Whether a file is the state of a template's build, from which it continues."""
    return command == "template" and ("/.work/" in file or file.endswith("/.lock"))


def _unexpected(folder: Path) -> str:
    """The error of a pair's record that is no sentence: its class and message; else nothing."""
    for record in folder.rglob(".cohort/**/*.json"):
        reason = str(json.loads(record.read_bytes()).get("reason", ""))
        if re.match(r"\w+(Error|Exception): ", reason):
            return reason[:200]
    return ""


def _sentence(error: BaseException) -> str:
    return re.sub(r"\S*/", "", str(error))[:160]


def _place(error: BaseException) -> str:
    """The error, and the innermost line of the package that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        one for one in frames if "stn3d/" in one.filename and "site-packages" not in one.filename
    ]
    where = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
    message = " ".join(str(error).split())[:160]
    return f"{type(error).__name__}: {message} ({where})".encode("ascii", "replace").decode()
