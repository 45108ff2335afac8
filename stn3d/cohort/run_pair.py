"""One pair: registered, saved and recorded by one process, whatever happens to others."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stn3d.cohort.fingerprints import Fingerprint, fingerprint, input_path, is_unchanged
from stn3d.cohort.layout import CohortFolder
from stn3d.cohort.lock import LockedError, locked
from stn3d.cohort.pairs import CohortPair
from stn3d.cohort.record import PairRecord, is_finished, output_fingerprints, read_record
from stn3d.cohort.request import CohortRequest
from stn3d.errors import GeometryWarning, InputError, MemoryWarning
from stn3d.io import refuse_inputs
from stn3d.kernels.common.jit import is_first_run
from stn3d.registration.api import register
from stn3d.registration.inputs import RegistrationImage
from stn3d.registration.outputs import Outputs
from stn3d.report.table import row_of

Fault = Literal["", "busy", "first_run", "transient", "disk_full"]

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_TRANSIENT = (
    errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY, errno.EINTR,
    errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ECONNRESET,
)  # fmt: skip
_MOST_FIRST_RUNS = 5  # where two workers compile at once, a pair may meet both
_RSS_UNITS = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, kB elsewhere, to GB


@dataclass(frozen=True)
class PairTask:
    """A pair and all that a worker needs to know to register it.

    Args:
        pair: the pair.
        request: what is asked for all pairs.
        root: absolute path of the cohort's folder.
        tries: how often the pair was begun before.
        verify: read the contents of a finished pair to find out whether it is whole.
        first_runs: how often a process compiled kernels for the pair; in the end that is accepted.
    """

    pair: CohortPair
    request: CohortRequest
    root: Path
    tries: int = 0
    verify: bool = False
    first_runs: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a worker reports.

    Args:
        name: name of the pair.
        record: its record; None if another process is registering the pair.
        fault: why the pair may be tried again: ``busy`` (another process has it), ``transient``
            (an error of the machine), ``disk_full``, or ``first_run`` (the process compiled
            kernels, so its results would differ from others' in the last digits); empty if trying
            again has no use.
        was_finished: whether there was nothing to do.
    """

    name: str
    record: PairRecord | None
    fault: Fault = ""
    was_finished: bool = False


class InputsChangedError(Exception):
    """A file was changed while the pair was registered."""


class _FirstRunError(Exception):
    """This process compiled kernels."""


def run_pair(task: PairTask) -> Outcome:
    """Register a pair unless it is finished, save the results, and then its record.

    No error leaves this function: it becomes the pair's record.
    """
    pair, folder = task.pair, CohortFolder(task.root)
    try:
        with locked(folder.lock(pair.name)):
            known = read_record(folder, pair.name)
            if is_finished(known, pair, task.request, folder, verify=task.verify):
                return Outcome(pair.name, known, was_finished=True)
            return _registered(task, folder)
    except LockedError:
        return Outcome(pair.name, None, "busy")
    except OSError as error:  # the lock cannot be made
        return Outcome(pair.name, _failure(task, error), _fault(error))


def _registered(task: PairTask, folder: CohortFolder) -> Outcome:
    """Register a pair that this process has locked."""
    pair, began_s, began_cpu_s = task.pair, time.perf_counter(), time.process_time()
    fault: Fault = ""
    with suppress(OSError):
        folder.record(pair.name).unlink()  # it describes other outputs from now on
    try:
        record = _saved(task, folder)
    except _FirstRunError:
        return Outcome(pair.name, None, "first_run")
    except Exception as error:
        record, fault = _failure(task, error), _fault(error)
    record = dataclasses.replace(
        record,
        seconds=round(time.perf_counter() - began_s, 3),
        cpu_seconds=round(time.process_time() - began_cpu_s, 3),
        peak_memory_gb=_peak_memory_gb(),
    )
    try:
        record.write(folder)
    except InputError as error:
        record, fault = _failure(task, error), _fault(error)
    return Outcome(pair.name, record, fault)


def _saved(task: PairTask, folder: CohortFolder) -> PairRecord:
    """Register a pair and save the results.

    Raises:
        InputError: it cannot be registered.
        InputsChangedError: a file was changed meanwhile.
        _FirstRunError: this process compiled kernels.
    """
    pair, request = task.pair, task.request
    inputs = {role: _input(role, path) for role, path in pair.files.items()}
    outputs, out = Outputs(**request.outputs), folder.root / pair.folder
    names = outputs.files(
        pair.files["fixed"],
        pair.files["moving"],
        labels="moving_labels" in pair.files,
        uncertainty=request.settings.uncertainty,
    )
    refuse_inputs([out / name for name in names.values()], pair.files.values())
    _remove_parts(out, list(names.values()))
    options = dict(request.options)
    if "init" in pair.files:
        options["init"] = pair.files["init"]
    with _notes() as notes:
        fixed, moving = _FIXED.of(pair.files, inputs), _side(pair.files, "moving")
        found = register(fixed, moving, config=request.config, **options)
        changed = [role for role, known in inputs.items() if _changed(role, pair, known)]
        if changed:
            raise InputsChangedError(
                f"{pair.files[changed[0]]} was changed while it was registered"
            )
        if is_first_run() and task.first_runs < _MOST_FIRST_RUNS:
            raise _FirstRunError
        files = found.save(out, outputs)
    return PairRecord(
        pair.name,
        "done",
        tries=task.tries + 1,
        request=request.digest,
        inputs=inputs,
        outputs=output_fingerprints(folder, files),
        row=row_of(found.metrics),
        notes=notes,
    )


def _peak_memory_gb() -> float:
    """Peak memory of this process; 0 on Windows."""
    try:
        import resource
    except ImportError:
        return 0.0
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _RSS_UNITS, 3)


class _FixedImage:
    """The fixed image of the last pair, read and prepared once for pairs that share it."""

    def __init__(self) -> None:
        self._key: object = None
        self._image: RegistrationImage | None = None

    def of(self, files: Mapping[str, str], inputs: Mapping[str, Fingerprint]) -> RegistrationImage:
        """The fixed image of a pair.

        Args:
            files: the pair's files.
            inputs: their fingerprints: a file that was changed is read again.
        """
        roles = sorted(role for role in files if role.startswith("fixed"))
        key = [(role, files[role], inputs[role]) for role in roles]
        if self._image is None or key != self._key:
            self._image = None  # its memory is free before the next one is read
            self._key, self._image = key, _side(files, "fixed", keep=True)
        return self._image


_FIXED = _FixedImage()


def _side(files: Mapping[str, str], role: str, *, keep: bool = False) -> RegistrationImage:
    """One side of a pair."""
    return RegistrationImage(
        files[role],
        keep=keep,
        mask=files.get(f"{role}_mask"),
        exclude=files.get(f"{role}_exclude"),
        labels=files.get(f"{role}_labels"),
        landmarks=files.get(f"{role}_points"),
    )


def _input(role: str, path: str) -> Fingerprint:
    """The fingerprint of an input.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    file = input_path(role, path)
    try:
        return fingerprint(file)
    except FileNotFoundError:
        what = role.replace("_", " ") if "_" in role else f"{role} image"
        raise InputError(f"there is no {what} {file}; check the path.") from None


def _changed(role: str, pair: CohortPair, known: Fingerprint) -> bool:
    return not is_unchanged(input_path(role, pair.files[role]), known)


def _remove_parts(folder: Path, names: list[str]) -> None:
    """Remove temporary files that a killed process left of these files; the pair is locked."""
    wanted = {name if len(os.fsencode(name)) < 200 else name[-40:] for name in names}
    with suppress(FileNotFoundError):
        for one in os.scandir(folder):
            part = re.fullmatch(r"\.part-[0-9a-f]{12}-(.*)", one.name)
            if part and part[1] in wanted:
                os.unlink(one.path)


@contextmanager
def _notes() -> Iterator[list[str]]:
    """Collect stn3d's warnings about geometry and memory."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        for kind in (GeometryWarning, MemoryWarning):
            warnings.simplefilter("always", category=kind)
        try:
            yield notes
        finally:
            notes += dict.fromkeys(str(one.message) for one in caught)


def _failure(task: PairTask, error: BaseException) -> PairRecord:
    """The record of a pair that could not be registered."""
    known: tuple[type[BaseException], ...] = (InputError, InputsChangedError)
    text = str(error) if isinstance(error, known) else f"{type(error).__name__}: {error}"
    text = " ".join(text.split())[:2000]
    return PairRecord(
        task.pair.name, "error", text, tries=task.tries + 1, request=task.request.digest
    )


def _fault(error: BaseException) -> Fault:
    """Whether an error, or what caused it, is one of the machine."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, OSError) and chain.errno in _DISK_FULL:
            return "disk_full"
        if isinstance(chain, MemoryError | InputsChangedError):
            return "transient"
        if isinstance(chain, OSError) and chain.errno in _TRANSIENT:
            return "transient"
        chain = chain.__cause__ or chain.__context__
    return ""


def unstarted(pair: CohortPair, error: str, **further: Any) -> PairRecord:
    """The record of a pair whose worker could not report."""
    return PairRecord(pair.name, "error", error, **further)
