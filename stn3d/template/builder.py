"""What all builds share: registrations to a template, its updates, and the summary."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from stn3d.choices import Preset
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import ImageSource, atomic_write
from stn3d.registration.outputs import Outputs
from stn3d.registration.result import versions
from stn3d.registration.runtime import Clock
from stn3d.report.index import IndexEntry, write_index
from stn3d.report.table import row_of
from stn3d.template.folder import Folder
from stn3d.template.registrations import Job, Outcome, Registrations, matrix_of
from stn3d.template.settings import TemplateSettings
from stn3d.template.subjects import Subject, digest_of
from stn3d.template.update import Member, Space, image_on, updated
from stn3d.transforms import Affine, Transform

SCHEMA_VERSION = 1
"""Version of template.json; rises when a key is renamed or removed, or changes its meaning."""

Fixed = tuple[ImageSource, str]
"""A fixed image and the hash of its content."""

_logger = logging.getLogger("stn3d")


@dataclass(eq=False)
class Builder:
    """A build in progress.

    Args:
        subjects: the images, in an order that does not depend on that in which they were given.
        folder: folder of the results.
        settings: settings of the template.
        runs: runs the registrations.
        clock: times the steps.
        poses: the linear part of the present transform to each image, by its name.
        iterations: metrics of each update.
        results: metrics of the final registration of each image.
        further: further entries of the summary.
    """

    subjects: Sequence[Subject]
    folder: Folder
    settings: TemplateSettings
    runs: Registrations
    clock: Clock
    poses: dict[str, Affine] = field(default_factory=dict)
    iterations: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    further: dict[str, Any] = field(default_factory=dict)

    def job(
        self,
        subject: Subject,
        part: str,
        options: dict[str, Any],
        fixed: Fixed,
        outputs: Outputs | None = None,
    ) -> Job:
        """The registration of an image to a fixed one, from its present pose.

        Args:
            subject: the moving image.
            part: part of the build.
            options: arguments of `stn3d.register`.
            fixed: the fixed image.
            outputs: files for the folder of the image; None for the transform alone.
        """
        work, pose = self.folder.work(part), self.poses.get(subject.name)
        return Job(
            subject.name,
            work if outputs is None else self.folder.path / subject.name,
            work / f"{subject.name}.json",
            (fixed[0], subject.source),
            options | {"max_memory": self.settings.max_memory, "config": self.settings.further},
            (fixed[1], subject.digest),
            None if pose is None else matrix_of(pose),
            outputs,
        )

    def register(
        self, part: str, options: dict[str, Any], fixed: Fixed, what: str
    ) -> dict[str, Outcome]:
        """Register all images to a fixed one.

        Returns:
            By name, the registrations that did not fail.

        Raises:
            InputError: fewer than two did not fail.
        """
        outcomes = self.runs.run(
            [self.job(one, part, options, fixed) for one in self.subjects], what
        )
        failed = [one for one in outcomes if one.failed]
        for one in failed:
            _logger.warning(
                "the registration of %s failed (%s); the image does not contribute to this mean.",
                one.name,
                one.metrics["reason"],
            )
        if len(outcomes) - len(failed) < 2:
            raise InputError(
                f"{len(failed)} of {len(outcomes)} registrations failed ({failed[0].name}: "
                f"{failed[0].metrics['reason']}); give images of one modality, or another --start."
            )
        return {one.name: one for one in outcomes if not one.failed}

    def update(
        self, space: Space, found: Mapping[str, Outcome | Transform], values: Tensor | None
    ) -> Tensor:
        """The next template; the poses become those to it.

        Args:
            space: space of the template.
            found: transforms from the present template by name, or registrations.
            values: the present template, if there is one.
        """
        members: list[Member] = []
        for one in self.subjects:
            if one.name in found:
                known = found[one.name]
                reader = known.transform if isinstance(known, Outcome) else partial(_same, known)
                members.append((one, reader))
        done = updated(members, space, values, self.settings.sharpening)
        self.poses = {one.name: p for (one, _), p in zip(members, done.poses, strict=True)}
        self.iterations.append({"images": len(members), **done.metrics})
        return done.values

    def deformed(self, space: Space, values: Tensor, outputs: Outputs) -> list[Path]:
        """Iterate with deformations, write the template, and register all images to it.

        Args:
            space: space of the template.
            values: the first mean.
            outputs: files of each image.

        Returns:
            The files.
        """
        with self.clock("iterations"):
            for number in range(1, self.settings.iterations + 1):
                values = self._iterated(space, values, number)
        with self.clock("final"):
            fixed = self.written(values, space.grid, self.folder.template)
            options = self.settings.registration(self.settings.preset, "deformable")
            jobs = [self.job(one, "final", options, fixed, outputs) for one in self.subjects]
            found = self.runs.run(jobs, "registration to the template")
        self.results = {one.name: one.metrics for one in found}
        files = [self.folder.path / one.name / name for one in found for name in one.files]
        if outputs.report:
            files.append(self._index(found))
        return [self.folder.template, *files]

    def _index(self, found: Sequence[Outcome]) -> Path:
        """A page with all registrations to the template, worst first."""
        entries = []
        for one in sorted(found, key=lambda one: one.name):
            metrics = json.loads((one.path.parent / "metrics.json").read_text(encoding="utf8"))
            entries.append(IndexEntry(one.name, one.path.parent, row_of(metrics)))
        return write_index(self.folder.path, entries)

    def _iterated(self, space: Space, values: Tensor, number: int) -> Tensor:
        """One iteration: register all images, and update the template."""
        count = self.settings.iterations
        preset: Preset = self.settings.preset if number == count else "fast"
        part = f"iteration-{number}"
        fixed = self.written(values, space.grid, self.folder.work(part) / "template.nii.gz")
        options = self.settings.registration(preset, "deformable")
        found = self.register(part, options, fixed, f"iteration {number} of {count}")
        return self.update(space, found, values)

    def written(self, values: Tensor, grid: Grid, path: Path) -> Fixed:
        """Write a template."""
        image = image_on(values, grid, "template")
        with atomic_write(path) as part:
            image.save(part)
        return path, digest_of(image)

    def summary(self, key: str, names: Sequence[str], space: Space) -> dict[str, Any]:
        """The content of template.json.

        Args:
            key: hash of the images and settings.
            names: names of the images in the order given.
            space: space of the template.
        """
        grid = space.grid
        return {
            "schema_version": SCHEMA_VERSION,
            "key": key,
            "images": [{"name": name, **self.results[name]} for name in names],
            "grid": {"shape": list(grid.shape), "spacing_mm": round(grid.spacing_mm[0], 6)},
            "iterations": self.iterations,
            **self.further,
            "settings": self.settings.metrics(),
            "timings_s": self.clock.seconds,
            "versions": versions(),
        }


def _same(transform: Transform) -> Transform:
    return transform
