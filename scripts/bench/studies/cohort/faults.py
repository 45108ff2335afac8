"""Faults at random moments of small cohorts, and what is found afterwards.

Each fault happens to a run on a folder of its own. Then the same command runs again undisturbed.
A finding is a sentence about anything that should not be: a file under a final name that is not
whole, a finished pair that was lost or registered again, an output that is not that of an
undisturbed run, temporary files or locks that are left.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
from scipy.ndimage import gaussian_filter

from scripts.bench.paths import ROOT

QUICK = ("--kind", "rigid", "--preset", "fast", "--init", "header", "--threads", "1")
_TIMED = (".json", ".html", ".png")  # files that hold times, or show them
_DISK_KB = 600


@dataclass
class Cohort:
    """A table of small pairs and its undisturbed results.

    Args:
        folder: folder of the images, the table and the results.
        count: number of pairs.
    """

    folder: Path
    count: int
    whole: dict[str, bytes] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def table(self) -> Path:
        return self.folder / "pairs.csv"

    def make(self) -> None:
        """Write the images and the table, and register the pairs undisturbed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for number in range(self.count + 1):
            write_image(self.image(number), number)
        rows = [f"p{n},im0.nii.gz,im{n}.nii.gz" for n in range(1, self.count + 1)]
        self.table.write_text("\n".join(["name,fixed,moving", *rows]) + "\n")
        begin = time.monotonic()
        finish(self.start(self.folder / "whole"))
        self.seconds = time.monotonic() - begin
        self.whole = {name: path.read_bytes() for name, path in results(self.folder / "whole")}
        assert len(self.whole) >= 4 * self.count

    def image(self, number: int) -> Path:
        return self.folder / f"im{number}.nii.gz"

    def start(
        self, out: Path, *further: str, before: tuple[str, ...] = ()
    ) -> subprocess.Popen[str]:
        """Start a run, in a session of its own."""
        command = [*before, sys.executable, "-m", "stn3d", "cohort", str(self.table)]
        command += ["--out", str(out), "--workers", "2", *QUICK, *further]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", cwd=ROOT,
            start_new_session=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip


def write_image(path: Path, shift: int) -> None:
    """A small image of blobs, shifted by some voxels."""
    values = gaussian_filter(np.random.default_rng(0).standard_normal((36, 32)), 3)
    values = np.roll(values, shift % 5, 0) - values.min() + 0.001 * shift
    nib.Nifti1Image(values.astype(np.float32)[..., None], np.diag([4.0, 4, 4, 1])).to_filename(path)


def finish(process: subprocess.Popen[str], timeout_s: float = 300) -> tuple[int, str]:
    """Exit code and output of a run; its whole session is killed if it hangs."""
    try:
        printed, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        kill_tree(process)
        return -1, "the run did not end"
    return process.returncode, printed


def results(out: Path) -> Iterator[tuple[str, Path]]:
    """The files of pairs under their final names."""
    for path in sorted(out.glob("p*/*")):
        if not path.name.startswith("."):
            yield path.relative_to(out).as_posix(), path


def finished(out: Path) -> dict[str, int]:
    """Pairs with a record of success, and when it was written."""
    found = {}
    for path in out.glob(".cohort/records/*.json"):
        if not path.name.startswith("."):
            record = json.loads(path.read_bytes())  # whole at any moment
            if record["state"] == "done":
                found[record["name"]] = path.stat().st_mtime_ns
    return found


def differences(cohort: Cohort, out: Path) -> list[str]:
    """Files that are not those of the undisturbed run; times are ignored."""
    found = []
    for name, path in results(out):
        content, known = path.read_bytes(), cohort.whole.get(name)
        if known is None:
            found.append(f"{name} is no file of the undisturbed run")
        elif path.suffix == ".json":
            if _without_times(content) != _without_times(known):
                found.append(f"{name} differs")
        elif path.suffix == ".html":
            if not content.rstrip().endswith(b"</html>"):
                found.append(f"{name} is not whole")
        elif path.suffix not in _TIMED and content != known:
            found.append(f"{name} differs")
    return found


def _without_times(content: bytes) -> object:
    found = json.loads(content)
    found.pop("timings_s")
    return found


# -- faults ---------------------------------------------------------------------------------------


def kill_tree(process: subprocess.Popen[str]) -> None:
    """SIGKILL a run and all its workers."""
    for one in [*psutil.Process(process.pid).children(recursive=True), process]:
        with _ended():
            os.kill(one.pid, signal.SIGKILL)
    process.communicate()  # closes the pipe too


@contextmanager
def _ended() -> Iterator[None]:
    """Processes may have ended by themselves."""
    try:
        yield
    except (ProcessLookupError, psutil.NoSuchProcess):
        return


def kill_worker(cohort: Cohort, out: Path, moment_s: float) -> tuple[int, str]:
    """SIGKILL one worker process; the run goes on."""
    process = cohort.start(out)
    time.sleep(moment_s)
    with _ended():
        workers = [
            one
            for one in psutil.Process(process.pid).children(recursive=True)
            if "spawn_main" in " ".join(one.cmdline())
        ]
        if workers:
            random.choice(workers).kill()
    code, printed = finish(process)
    return code, printed if code else ""


def kill_run(cohort: Cohort, out: Path, moment_s: float) -> tuple[int, str]:
    """SIGKILL the process of the command, which is also the scheduler's; workers must end."""
    process = cohort.start(out)
    time.sleep(moment_s)
    workers: list[psutil.Process] = []
    with _ended():
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    finish(process)
    _, alive = psutil.wait_procs(workers, timeout=30)
    return 0, f"{len(alive)} workers outlived the run" if alive else ""


def kill_all(cohort: Cohort, out: Path, moment_s: float) -> tuple[int, str]:
    """SIGKILL everything at once, as a batch system does at the time limit."""
    process = cohort.start(out)
    time.sleep(moment_s)
    kill_tree(process)
    return 0, ""


def start_dask(what: str, file: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start ``dask scheduler`` or ``dask worker``.

    Args:
        what: ``scheduler`` or ``worker``.
        file: file with the scheduler's address.
        *options: further options.
    """
    command = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--scheduler-file", str(file)]
    return subprocess.Popen(
        [*command, "--no-dashboard", *options], cwd=ROOT, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def kill_scheduler(cohort: Cohort, out: Path, moment_s: float) -> tuple[int, str]:
    """SIGKILL a scheduler of its own process; the run must end with a sentence."""
    file = out.with_suffix(".scheduler.json")
    scheduler = start_dask("scheduler", file, "--port", "0", "--host", "127.0.0.1")
    while not file.exists():
        time.sleep(0.1)
    one_task = ("--nthreads", "1", "--memory-limit", "0", "--death-timeout", "20")
    worker = start_dask("worker", file, "--nworkers", "2", *one_task)
    try:
        process = cohort.start(out, "--scheduler", str(file))
        time.sleep(moment_s)
        scheduler.kill()
        code, printed = finish(process, 120)
        ended_in_order = code == 0 or "the scheduler is gone" in printed or "no Dask" in printed
        return 0, "" if ended_in_order else f"exit code {code}: {printed[-300:]}"
    finally:
        for one in [*psutil.Process(worker.pid).children(recursive=True), worker, scheduler]:
            with _ended():
                one.kill()
        worker.wait()
        scheduler.wait()


def fill_disk(cohort: Cohort, out: Path, _: float) -> tuple[int, str]:
    """A file system of 600 kB that is full after some pairs; later it is larger. Needs root."""
    out.mkdir(parents=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_DISK_KB}k", "tmpfs", str(out)], check=True
    )
    code, printed = finish(cohort.start(out))
    subprocess.run(["mount", "-o", "remount,size=64m", str(out)], check=True)
    said = "is full; free some space" in printed
    return 0, "" if code in (2, 3) and said else f"exit code {code}: {printed[-300:]}"


def limit_files(cohort: Cohort, out: Path, _: float) -> tuple[int, str]:
    """No file may be longer than 4 kB."""
    code, printed = finish(cohort.start(out, before=("prlimit", "--fsize=4096")))
    return 0, "" if code in (2, 3) else f"exit code {code}: {printed[-300:]}"


def corrupt_input(cohort: Cohort, out: Path, moment_s: float) -> tuple[int, str]:
    """Overwrite the image of the last pair while the run is under way; later it is as before."""
    image = cohort.image(cohort.count)
    kept = image.read_bytes()
    process = cohort.start(out)
    time.sleep(moment_s)
    image.write_bytes(kept[: len(kept) // 2])
    code, printed = finish(process)
    image.write_bytes(kept)
    return 0, "" if code in (0, 3) else f"exit code {code}: {printed[-300:]}"


def run_twice(cohort: Cohort, out: Path, moment_s: float) -> tuple[int, str]:
    """A second run in the same folder; both must end well, and no pair be written twice."""
    first = cohort.start(out)
    time.sleep(moment_s / 3)
    second = cohort.start(out)
    codes = [finish(one)[0] for one in (first, second)]
    return 0, "" if codes == [0, 0] else f"exit codes {codes}"


FAULTS: dict[str, Callable[[Cohort, Path, float], tuple[int, str]]] = {
    "SIGKILL of a worker": kill_worker,
    "SIGKILL of the run": kill_run,
    "SIGKILL of the run and its workers": kill_all,
    "SIGKILL of the scheduler": kill_scheduler,
    "disk full": fill_disk,
    "limit of the size of files": limit_files,
    "input corrupted midway": corrupt_input,
    "two runs in one folder": run_twice,
}


def findings(cohort: Cohort, fault: str, out: Path, seed: int) -> list[str]:
    """Let a fault happen at a random moment and run again.

    Args:
        cohort: the cohort.
        fault: key of `FAULTS`.
        out: folder of the run.
        seed: seed of the moment.
    """
    random.seed(f"{fault} {seed}")
    moment_s = random.uniform(0.1, 1.0) * cohort.seconds
    code, wrong = FAULTS[fault](cohort, out, moment_s)
    found = [wrong] if wrong else []
    if code:
        found.append(f"exit code {code} of the disturbed run")
    found += [f"after the fault {one}" for one in differences(cohort, out)]
    before = finished(out)
    code, printed = finish(cohort.start(out))
    if code:
        found.append(f"exit code {code} of the second run: {printed[-300:]}")
    after = finished(out)
    found += [f"{name} was registered again" for name in before if before[name] != after.get(name)]
    if len(after) != cohort.count:
        found.append(f"{len(after)} of {cohort.count} pairs are finished")
    found += differences(cohort, out)
    missing = set(cohort.whole) - {name for name, _ in results(out)}
    found += [f"{name} is missing" for name in sorted(missing)]
    left = [one for one in out.rglob("*") if re.match(r"\.part-", one.name)]
    left += list(out.glob(".cohort/locks/*"))
    if out.is_mount():
        subprocess.run(["umount", str(out)], check=True)
    return found + [f"{one.relative_to(out)} is left" for one in left]
