"""Unbiased group template: the iterated mean of intensity and of shape.

1. All images are registered affinely to an initial target. The mean of the poses gives the space of
   the template, which does not depend on the target, and the mean of the images the first template.
2. In each iteration all images are registered to the template, and `update.updated` makes the new
   one from the transforms.
3. The images are registered to the last template; these are the transforms that are saved.

Images are taken in the order of their content, so the result does not depend on the order given.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from stn3d.grid import Grid
from stn3d.io import ImageSource, refuse_inputs
from stn3d.registration.outputs import Outputs
from stn3d.registration.result import versions
from stn3d.registration.runtime import Clock, limited_threads
from stn3d.template.builder import Builder
from stn3d.template.folder import opened, text_hash
from stn3d.template.linear_mean import product, reflection, symmetry_pose
from stn3d.template.registrations import Job, Report, opened_runs
from stn3d.template.result import Template
from stn3d.template.settings import TemplateSettings
from stn3d.template.space import template_grid, template_spacing_mm
from stn3d.template.subjects import START, Subject, names_of, read_subjects, subject_of
from stn3d.template.update import Space, image_on
from stn3d.transforms import Affine


def build(
    images: Sequence[ImageSource],
    out: str | os.PathLike[str],
    *,
    start: ImageSource | None = None,
    settings: TemplateSettings | None = None,
    outputs: Outputs | None = None,
    progress: Report | bool | None = None,
) -> Template:
    """Build an unbiased template of a group of images.

    An interrupted build continues with the same call; finished registrations are not repeated.

    Args:
        images: two or more images of one modality, of any grids, see `stn3d.io.read_image`.
        out: folder for ``template.nii.gz``, ``template.json`` and a folder for each image with the
            files of its registration to the template.
        start: initial target. Default: the image whose foreground has the median volume.
        settings: settings of the template.
        outputs: files of each image.
        progress: true for a progress bar, or a function that is called with the number of
            registrations done, their total number and what is in progress.

    Returns:
        The template, its transforms and its metrics.

    Raises:
        InputError: an image or setting cannot be used, images cannot be registered, or the folder
            cannot be written.
    """
    settings, files, clock = settings or TemplateSettings(), outputs or Outputs(), Clock()
    with opened(out) as folder, limited_threads(settings.threads):
        with clock("read"):
            subjects = read_subjects(images)
            first = _median_subject(subjects) if start is None else subject_of(start, START)
        digests = [[one.name, one.digest] for one in subjects]
        content = [settings.metrics(), first.digest, str(files), digests, versions()["stn3d"]]
        key = text_hash(content)
        summary = folder.finished(key)
        if summary is None:
            names = names_of(images)
            own = [f"{one}/{n}" for one in names for n in files.files("fixed", "moving").values()]
            refuse_inputs([folder.template, *(folder.path / n for n in own)], [images, start])
            folder.begin()
            count = len(subjects) * (settings.iterations + 2) + settings.symmetric
            with opened_runs(settings, count, progress) as runs:
                builder = Builder(subjects, folder, settings, runs, clock)
                builder.further["start"] = first.image_name
                with clock("affine"):
                    space, values = _affine_mean(builder, first)
                written = builder.deformed(space, values, files)
            summary = folder.finish(builder.summary(key, names, space), written)
        return Template(folder.path, summary)


def _median_subject(subjects: Sequence[Subject]) -> Subject:
    """The subject whose foreground has the median volume."""
    median = statistics.median_low(one.foreground_ml for one in subjects)
    return next(one for one in subjects if one.foreground_ml == median)


def _affine_mean(builder: Builder, start: Subject) -> tuple[Space, Tensor]:
    """The space of the template and the first mean, by affine registrations to a target.

    Raises:
        InputError: fewer than two registrations succeed.
    """
    options = builder.settings.registration("fast", "affine")
    fixed, what = (start.source, start.digest), f"affine registration to {start.name}"
    found = builder.register("affine", options, fixed, what)
    poses = {name: one.linear() for name, one in found.items()}
    centre = torch.stack([one.centroid_mm for one in builder.subjects]).mean(0)
    if builder.settings.symmetric:
        upright = _symmetry_pose(builder, start)
        centre[0] = upright.centre_mm[0]
        poses = {name: product(upright, pose) for name, pose in poses.items()}
    space = _space(builder, poses, centre)
    return space, builder.update(space, poses, None)


def _space(builder: Builder, poses: Mapping[str, Affine], centre_mm: Tensor) -> Space:
    """The space of the template, with a grid for the centred poses."""
    settings = builder.settings
    grids = [one.grid for one in builder.subjects if one.name in poses]
    space = Space(grids[0], centre_mm, settings.symmetric)
    centring = space.centring(list(poses.values()))
    centred = [product(centring, pose) for pose in poses.values()]
    plane = float(centre_mm[0]) if settings.symmetric else None
    spacing = settings.spacing_mm or template_spacing_mm(grids)
    return Space(template_grid(grids, centred, spacing, plane), centre_mm, settings.symmetric)


def _symmetry_pose(builder: Builder, start: Subject) -> Affine:
    """The rigid map that places the plane of symmetry of the target at constant x."""
    image, middle = start.read(), start.centroid_mm
    mirror = reflection(float(middle[0]), start.grid.ndim)
    grid = Grid(image.grid.shape, mirror.matrix @ image.grid.world_from_index)
    options = builder.settings.registration("fast", "rigid")
    work = builder.folder.work("mirror")
    mirrored = image_on(image.values, grid, f"mirrored {start.name}")
    images, digests = (start.source, mirrored), (start.digest, "mirrored")
    job = Job("mirror", work, work / "mirror.json", images, options, digests)
    (found,) = builder.runs.run([job], "plane of symmetry")
    return symmetry_pose(found.linear(), mirror, middle)
