"""Runs workers, and finds the case that ended or blocked one."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import IO, Any

from scripts.bench.paths import ROOT
from scripts.fuzz.cases import Outcome

HANG_S = 20.0  # processor time of a case
LIMIT_MB = 4096.0
_SILENCE_S = 90.0  # wall time of a case, on a busy machine
_START_S = 300.0  # imports, and the compilation of kernels on a new machine


def run_cases(names: Sequence[str], first: int, last: int, seed: int = 0) -> Iterator[Outcome]:
    """Run the cases ``first`` up to ``last`` of each format or command in child processes.

    Yields:
        The outcome of each case, crashes and hangs included.

    Raises:
        RuntimeError: a child ended before its first case.
    """
    pending, start = list(names), first
    while pending:
        stop = None
        for found in _worker(pending, start, first, last, seed):
            yield found
            stop = found
        if stop is None:
            raise RuntimeError(f"a fuzz worker for {pending} ended before its first case")
        pending, start = pending[pending.index(stop.name) :], stop.number + 1
        if start == last:
            pending, start = pending[1:], first


def _worker(
    names: Sequence[str], start: int, first: int, last: int, seed: int
) -> Iterator[Outcome]:
    """Outcomes of one child; the last one is a crash or a hang, or the last case of all."""
    numbers = [str(n) for n in (seed, first, last)]
    command = [sys.executable, "-m", "scripts.fuzz.worker", *numbers, *names, "--start", str(start)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": ""},
    ) as child:
        assert child.stdout is not None
        try:
            yield from _outcomes(child, child.stdout)
        finally:
            _end(child)


def _outcomes(child: subprocess.Popen[bytes], pipe: IO[bytes]) -> Iterator[Outcome]:
    begun: dict[str, Any] = {}
    for line in _lines(pipe):
        if line is None and begun:
            yield Outcome(**begun, outcome="hang", detail=f"over {_SILENCE_S:g} s", cpu_s=HANG_S)
        if line is None:
            return
        content = json.loads(line)
        if "outcome" not in content:
            begun = content
            continue
        begun = {}
        yield _checked(Outcome(**content))
    if begun:
        code = child.wait()
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        yield Outcome(**begun, outcome="crash", detail=name)


def _checked(found: Outcome) -> Outcome:
    """An outcome that took too long or too much memory is a failure."""
    if found.cpu_s > HANG_S:
        return replace(found, outcome="hang")
    return replace(found, outcome="memory") if found.peak_mb > LIMIT_MB else found


def _lines(pipe: IO[bytes]) -> Iterator[bytes | None]:
    """Complete lines; None once when no more come in time."""
    rest, wait = b"", _START_S
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if not selector.select(wait):
                yield None
                return
            piece = os.read(pipe.fileno(), 1 << 16)
            if not piece:
                return
            *whole, rest = (rest + piece).split(b"\n")
            wait = _SILENCE_S if whole else wait
            yield from whole


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child and what it started."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
