"""Unbiased group template: the iterated mean of intensity and of shape.

1. All images are registered affinely to an initial target. The mean of the poses gives the space of
   the template, which does not depend on the target, and the mean of the images the first template.
2. In each iteration all images are registered to the template, and `update.updated` makes the new
   one from the transforms.
3. The images are registered to the last template; these are the transforms that are saved.

Images are taken in the order of their content, so the result does not depend on the order given.
"""

from __future__ import annotations

import logging
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stn3d.choices import Preset
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import ImageSource, atomic_write, refuse_inputs
from stn3d.registration.outputs import Outputs
from stn3d.registration.result import versions
from stn3d.registration.runtime import Clock, limited_threads
from stn3d.template.folder import Folder, opened, text_hash
from stn3d.template.linear_mean import product, reflection, symmetry_pose
from stn3d.template.registrations import Job, Outcome, Registrations, Report, matrix_of
from stn3d.template.result import Template
from stn3d.template.settings import TemplateSettings
from stn3d.template.space import template_grid, template_spacing_mm
from stn3d.template.subjects import Subject, digest_of, names_of, read_subjects, subject_of
from stn3d.template.update import Member, Space, image_on, updated
from stn3d.transforms import Affine, Linear, Transform

SCHEMA_VERSION = 1
"""Version of template.json; rises when a key is renamed or removed, or changes its meaning."""

_START = "start"
_logger = logging.getLogger("stn3d")


def build(
    images: Sequence[ImageSource],
    out: str | os.PathLike[str],
    *,
    start: ImageSource | None = None,
    settings: TemplateSettings | None = None,
    outputs: Outputs | None = None,
    progress: Report | None = None,
) -> Template:
    """Build an unbiased template of a group of images.

    An interrupted build continues with the same call; finished registrations are not repeated.

    Args:
        images: two or more images of one modality, any grids, see `stn3d.io.read_image`.
        out: folder for ``template.nii.gz``, ``template.json`` and a folder for each image with the
            files of its registration to the template.
        start: initial target. Default: the image whose foreground has the median volume.
        settings: settings of the template.
        outputs: files of each image.
        progress: called with the number of registrations done, their total number and what is in
            progress.

    Returns:
        The template, its transforms and its metrics.

    Raises:
        InputError: an image or setting cannot be used, images cannot be registered, or the folder
            cannot be written.
    """
    settings, clock = settings or TemplateSettings(), Clock()
    with opened(out) as folder, limited_threads(settings.threads):
        with clock("read"):
            subjects = read_subjects(images)
            first = _median_subject(subjects) if start is None else subject_of(start, _START)
        files = outputs or Outputs()
        content = [settings.metrics(), first.digest, str(files), versions()["stn3d"]]
        key = text_hash([*content, [(one.name, one.digest) for one in subjects]])
        summary = folder.finished(key)
        if summary is None:
            names = [
                f"{one.name}/{n}" for one in subjects for n in ("transform.h5", "moved.nii.gz")
            ]
            refuse_inputs([folder.path / n for n in (*names, "template.nii.gz")], [images, start])
            folder.begin()
            count = len(subjects) * (settings.iterations + 2) + settings.symmetric
            runs = Registrations(settings, count, progress or (lambda *_: None))
            with runs.opened():
                builder = Builder(subjects, folder, settings, runs, clock)
                summary = builder.complete(key, names_of(images), builder.affine(first), files)
        return Template(folder.path, summary)


def _median_subject(subjects: Sequence[Subject]) -> Subject:
    """The subject whose foreground has the median volume."""
    median = statistics.median_low(one.foreground_ml for one in subjects)
    return next(one for one in subjects if one.foreground_ml == median)


@dataclass(eq=False)
class Builder:
    """The steps of a build.

    Args:
        subjects: the images.
        folder: folder of the results.
        settings: settings of the template.
        runs: runs the registrations.
        clock: times the steps.
    """

    subjects: Sequence[Subject]
    folder: Folder
    settings: TemplateSettings
    runs: Registrations
    clock: Clock
    poses: dict[str, Linear] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)

    def affine(self, start: Subject) -> tuple[Space, Tensor]:
        """The space of the template and the first mean, by affine registrations to a target.

        Raises:
            InputError: fewer than two registrations succeed.
        """
        with self.clock("affine"):
            options = self.settings.registration("fast", "affine")
            fixed = start.source, start.digest
            jobs = [self._job(one, "affine", options, fixed) for one in self.subjects]
            found = self._kept(self.runs.run(jobs, f"affine registration to {start.name}"))
            poses = {name: _linear(one) for name, one in found.items()}
            centre = torch.stack([one.centroid_mm for one in self.subjects]).mean(0)
            if self.settings.symmetric:
                upright = self._symmetry_pose(start)
                centre[0] = upright.centre_mm[0]
                poses = {name: product(upright, pose) for name, pose in poses.items()}
            space = self._space(poses, centre)
            return space, self._updated(space, poses, None)

    def _space(self, poses: dict[str, Linear], centre_mm: Tensor) -> Space:
        """The space of the template, with a grid for the centred poses."""
        grids = [one.grid for one in self.subjects if one.name in poses]
        space = Space(grids[0], centre_mm, self.settings.symmetric)
        centring = space.centring(list(poses.values()))
        centred = [product(centring, pose) for pose in poses.values()]
        spacing = self.settings.spacing_mm or template_spacing_mm([s.grid for s in self.subjects])
        plane = float(centre_mm[0]) if self.settings.symmetric else None
        grid = template_grid(grids, centred, spacing, plane)
        return Space(grid, centre_mm, self.settings.symmetric)

    def _symmetry_pose(self, start: Subject) -> Affine:
        """The rigid map that places the plane of symmetry of the target at constant x."""
        image, middle = start.read(), start.centroid_mm
        mirror = reflection(float(middle[0]), start.grid.ndim)
        grid = Grid(image.grid.shape, mirror.matrix @ image.grid.world_from_index)
        options = self.settings.registration("fast", "rigid")
        images = (start.source, image_on(image.values, grid, f"mirrored {start.name}"))
        digests = start.digest, "mirrored"
        work = self.folder.work("mirror")
        job = Job("mirror", work, work / "mirror.json", images, options, digests)
        (found,) = self.runs.run([job], "plane of symmetry")
        return symmetry_pose(_linear(found), mirror, middle)

    def complete(
        self, key: str, names: Sequence[str], first: tuple[Space, Tensor], outputs: Outputs
    ) -> dict[str, Any]:
        """Iterate, register finally, and write the summary.

        Args:
            key: hash of the images and settings.
            names: names of the images in the order given.
            first: space and first mean.
            outputs: files of each image.

        Returns:
            The content of template.json.
        """
        space, values = first
        with self.clock("iterations"):
            values = self.iterate(space, values)
        with self.clock("final"):
            found = self.register_finally(space, values, outputs)
        content = {
            "schema_version": SCHEMA_VERSION,
            "key": key,
            "images": [{"name": name, **found[name].metrics} for name in names],
            "grid": {"shape": list(space.grid.shape), "spacing_mm": space.grid.spacing_mm[0]},
            "iterations": self.metrics,
            "settings": self.settings.metrics(),
            "timings_s": self.clock.seconds,
            "versions": versions(),
        }
        files = [p for one in found.values() for p in sorted(one.path.parent.iterdir())]
        return self.folder.finish(content, [self.folder.template, *files])

    def iterate(self, space: Space, values: Tensor) -> Tensor:
        """Update the template as often as the settings say."""
        count = self.settings.iterations
        for number in range(1, count + 1):
            preset: Preset = self.settings.preset if number == count else "fast"
            work = self.folder.work(f"{number}")
            template = self._written(values, space.grid, work / "template.nii.gz")
            options = self.settings.registration(preset, "deformable")
            jobs = [self._job(one, f"{number}", options, template) for one in self.subjects]
            found = self._kept(self.runs.run(jobs, f"iteration {number} of {count}"))
            values = self._updated(space, found, values)
        return values

    def register_finally(
        self, space: Space, values: Tensor, outputs: Outputs
    ) -> dict[str, Outcome]:
        """Write the template and register all images to it."""
        template = self._written(values, space.grid, self.folder.template)
        options = self.settings.registration(self.settings.preset, "deformable")
        jobs = [self._job(one, "final", options, template, outputs) for one in self.subjects]
        return {one.name: one for one in self.runs.run(jobs, "registration to the template")}

    def _job(
        self,
        subject: Subject,
        part: str,
        options: dict[str, Any],
        fixed: tuple[ImageSource, str],
        outputs: Outputs | None = None,
    ) -> Job:
        """The registration of an image to a fixed one, which is given with its hash."""
        work = self.folder.work(part)
        pose = self.poses.get(subject.name)
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

    def _kept(self, outcomes: Sequence[Outcome]) -> dict[str, Outcome]:
        """The registrations that did not fail, by the name of the image.

        Raises:
            InputError: there are fewer than two.
        """
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

    def _updated(
        self,
        space: Space,
        found: Mapping[str, Outcome | Transform],
        values: Tensor | None,
    ) -> Tensor:
        """The next template; the poses become those to it."""
        members: list[Member] = []
        for one in self.subjects:
            if one.name in found:
                known = found[one.name]
                reader = known.transform if isinstance(known, Outcome) else partial(_same, known)
                members.append((one, reader))
        update = updated(members, space, values, self.settings.sharpening)
        self.poses = {one.name: p for (one, _), p in zip(members, update.poses, strict=True)}
        self.metrics.append({"images": len(members), **update.metrics})
        return update.values

    def _written(self, values: Tensor, grid: Grid, path: Path) -> tuple[Path, str]:
        """Write a template; its path and hash."""
        image = image_on(values, grid, "template")
        with atomic_write(path) as part:
            image.save(part)
        return path, digest_of(image)


def _linear(outcome: Outcome) -> Linear:
    """The linear transform that a registration found."""
    found = outcome.transform()
    if not isinstance(found, Linear):
        raise TypeError(f"a {type(found).__name__} is not linear.")
    return found


def _same(transform: Transform) -> Transform:
    return transform
