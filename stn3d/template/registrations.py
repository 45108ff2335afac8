"""The registrations of a build: resumable, and several at a time if wanted.

Each registration writes its files into its folder, and last a record with a hash of the images and
the settings and hashes of the files. A registration whose record fits is not repeated.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from stn3d.errors import InputError
from stn3d.io import ImageSource, atomic_write, read_transform, write_transform
from stn3d.registration.api import register
from stn3d.registration.folders import make_folder
from stn3d.registration.outputs import Outputs
from stn3d.registration.progress_bar import ShowWork as Report
from stn3d.registration.progress_bar import chosen_work_progress
from stn3d.registration.result import versions
from stn3d.template.folder import file_hash, text_hash
from stn3d.template.settings import TemplateSettings
from stn3d.transforms import Affine, Linear, Transform


@dataclass(frozen=True)
class Job:
    """One registration.

    Args:
        name: name of the moving image.
        folder: folder of the files.
        record: file of the record.
        images: the fixed and the moving image.
        options: arguments of `stn3d.register`.
        digests: hashes of the fixed and the moving image.
        initial: matrix of the initial transform; None for automatic initialisation.
        outputs: the files to write; None for the transform alone.
    """

    name: str
    folder: Path
    record: Path
    images: tuple[ImageSource, ImageSource]
    options: dict[str, Any]
    digests: tuple[str, str]
    initial: tuple[tuple[float, ...], ...] | None = None
    outputs: Outputs | None = None

    @cached_property
    def key(self) -> str:
        """Hash of all that determines the result."""
        further = {k: v for k, v in self.options.items() if k not in ("threads", "max_memory")}
        content = [self.digests, further, self.initial, str(self.outputs), versions()["stn3d"]]
        return text_hash(content)


@dataclass(frozen=True)
class Outcome:
    """What a registration found.

    Args:
        name: name of the moving image.
        path: file of the transform.
        metrics: status, reason and correlations.
        files: names of all files in its folder.
    """

    name: str
    path: Path
    metrics: dict[str, Any]
    files: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether the quality check failed."""
        return bool(self.metrics["status"] == "failed")

    def transform(self) -> Transform:
        """Read the transform."""
        return read_transform(self.path)

    def linear(self) -> Affine:
        """Read the transform of a linear registration.

        Raises:
            TypeError: it is not linear.
        """
        found = self.transform()
        if not isinstance(found, Linear):
            raise TypeError(f"a {type(found).__name__} is not linear.")
        return Affine.from_matrix(found.matrix)


@dataclass(eq=False)
class Registrations:
    """Runs jobs, one after another or in several processes.

    Args:
        settings: settings of the template.
        total: expected number of registrations in all.
        report: called before and after each registration.
    """

    settings: TemplateSettings
    total: int
    report: Report
    done: int = 0
    _pool: Executor | None = field(default=None, repr=False)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Keep the processes for all jobs of a build."""
        if self.settings.jobs == 1:
            yield
            return
        with ProcessPoolExecutor(self.settings.jobs, mp_context=get_context("spawn")) as pool:
            self._pool = pool
            try:
                yield
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            finally:
                self._pool = None

    def run(self, jobs: Sequence[Job], what: str) -> list[Outcome]:
        """Run jobs, or find them finished.

        Args:
            jobs: the registrations.
            what: the part of the build that they belong to.

        Raises:
            InputError: an image cannot be registered, or a process died.
        """
        open_jobs = [job for job in jobs if not is_finished(job)]
        self.done += len(jobs) - len(open_jobs)
        self.report(self.done, self.total, what)
        if self._pool is None:
            for job in open_jobs:
                self.report(self.done, self.total, f"{what}: {job.name}")
                run_job(job, self._threads())
                self._count(what, job)
        else:
            self._run_in_pool(self._pool, open_jobs, what)
        return [_outcome(job) for job in jobs]

    def _run_in_pool(self, pool: Executor, jobs: Sequence[Job], what: str) -> None:
        try:
            waiting = [pool.submit(run_job, job, self._threads()) for job in jobs]
            for job, future in zip(jobs, waiting, strict=True):
                future.result()
                self._count(what, job)
        except BrokenProcessPool:
            raise InputError(
                "a process of the registrations was killed, perhaps for lack of memory; repeat the "
                "command to continue, with fewer --jobs."
            ) from None

    def _count(self, what: str, job: Job) -> None:
        self.done += 1
        self.report(self.done, self.total, f"{what}: {job.name}")

    def _threads(self) -> int | None:
        """CPU threads of a registration."""
        threads, jobs = self.settings.threads, self.settings.jobs
        if jobs == 1:
            return threads
        return max(1, (threads or os.cpu_count() or 1) // jobs)


@contextmanager
def opened_runs(
    settings: TemplateSettings, total: int, progress: Report | bool | None
) -> Iterator[Registrations]:
    """The registrations of a build, with their processes and their progress.

    Args:
        settings: settings of the template.
        total: expected number of registrations in all.
        progress: see `stn3d.template.build`.
    """
    with chosen_work_progress(progress) as report:
        runs = Registrations(settings, total, report or (lambda *_: None))
        with runs.opened():
            yield runs


def run_job(job: Job, threads: int | None) -> None:
    """Register, and write the files and the record.

    Raises:
        InputError: the images cannot be registered.
    """
    initial: Any = None if job.initial is None else torch.tensor(job.initial, dtype=torch.float64)
    try:
        found = register(*job.images, init=initial, threads=threads, **job.options)
        folder = make_folder(job.folder)
        if job.outputs is None:
            files = [folder / f"{job.name}.h5"]
            with atomic_write(files[0]) as part:
                write_transform(part, found.transform)
        else:
            files = found.save(folder, job.outputs)
    except InputError as error:
        message = str(error)
        raise error if job.name in message else InputError(f"{job.name}: {message}") from None
    after, quality = found.metrics["after"], found.metrics["quality"]
    metrics = {key: quality[key] for key in ("status", "reason")}
    metrics |= {key: after[key] for key in ("correlation", "local_correlation")}
    hashes = {str(path.relative_to(job.folder)): file_hash(path) for path in files}
    content = {"key": job.key, "files": hashes, "metrics": metrics}
    make_folder(job.record.parent)
    with atomic_write(job.record) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf8")


def is_finished(job: Job) -> bool:
    """Whether the record of a job fits and its files are complete."""
    try:
        content = json.loads(job.record.read_text(encoding="utf8"))
        files = content["files"].items()
        return bool(content["key"] == job.key) and all(
            file_hash(job.folder / name) == digest for name, digest in files
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def _outcome(job: Job) -> Outcome:
    content = json.loads(job.record.read_text(encoding="utf8"))
    name = "transform.h5" if job.outputs is not None else f"{job.name}.h5"
    return Outcome(job.name, job.folder / name, content["metrics"], tuple(content["files"]))


def matrix_of(pose: Linear) -> tuple[tuple[float, ...], ...]:
    """The matrix of a pose, for `Job.initial`."""
    return tuple(tuple(row) for row in pose.matrix.tolist())
