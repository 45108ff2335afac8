"""Within-subject template: the visits of one subject in the space halfway between them.

Every pair of visits is registered rigidly in both directions, the mean of both is inverse
consistent, and the poses follow from all pairs (`linear_mean.midpoint_poses`). No visit is the
target of another: all are interpolated once, onto a grid that treats them alike. Reuter et al.
2012, doi:10.1016/j.neuroimage.2012.02.084.

With Jacobian maps, the visits are also registered to their mean with deformations, whose mean is
0 as in a group template.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.evaluation import EvaluationCase, evaluate_case
from stn3d.grid import Grid
from stn3d.io import (
    Image,
    ImageSource,
    atomic_write,
    read_transform,
    refuse_inputs,
    write_image,
    write_transform,
)
from stn3d.registration.folders import make_folder
from stn3d.registration.outputs import Outputs
from stn3d.registration.result import versions
from stn3d.registration.runtime import Clock, limited_threads
from stn3d.template.average import MeanImage, sharpened
from stn3d.template.builder import Builder
from stn3d.template.folder import Folder, opened, text_hash
from stn3d.template.linear_mean import inverse_consistent, midpoint_poses, product
from stn3d.template.registrations import Report, opened_runs
from stn3d.template.result import Template
from stn3d.template.settings import TemplateSettings
from stn3d.template.space import template_grid, template_spacing_mm
from stn3d.template.subjects import digest_of, names_of, read_subjects
from stn3d.template.update import Space, image_on
from stn3d.template.volumes import (
    changes,
    label_volumes_ml,
    mean_volumes_ml,
    ratio,
    read_label_maps,
    write_jacobian,
    write_map,
)
from stn3d.transforms import Affine, Linear
from stn3d.warp import warp_image

ITERATIONS = 2
"""Default number of iterations of the deformable part."""


def build_within_subject(
    visits: Sequence[ImageSource],
    out: str | os.PathLike[str],
    *,
    jacobian: bool = False,
    labels: Sequence[ImageSource] = (),
    settings: TemplateSettings | None = None,
    outputs: Outputs | None = None,
    progress: Report | bool | None = None,
) -> Template:
    """Build the template of the visits of one subject.

    Args:
        visits: two or more images of one subject, in the order of time, of any grids.
        out: folder for ``template.nii.gz``, ``template.json`` and a folder for each visit with
            ``moved.nii.gz``, ``transform.h5``, ``inverse.h5`` and ``metrics.json``.
        jacobian: also deform the visits, and write ``jacobian.nii.gz`` for each visit and
            ``changes/A_to_B.nii.gz`` for consecutive visits, the local volume in B over that in A.
        labels: a label map for each visit; with ``jacobian``, the volume of each label in each
            visit and its changes are in template.json.
        settings: settings of the template. Default: 2 iterations (of the deformable part).
        outputs: files of each visit that is deformed.
        progress: true for a progress bar, or a function that is called with the number of
            registrations done, their total number and what is in progress.

    Returns:
        The template, its transforms and its metrics.

    Raises:
        InputError: see `build`; or the labels do not fit the visits, or a registration failed.
    """
    settings = settings or TemplateSettings(iterations=ITERATIONS)
    if labels and not jacobian:
        raise InputError("label maps of the visits need Jacobian maps; add --jacobian.")
    if settings.symmetric:
        raise InputError("a within-subject template cannot be symmetric; omit --symmetric.")
    clock, names, chosen = Clock(), names_of(visits), outputs or Outputs()
    with opened(out) as folder, limited_threads(settings.threads):
        with clock("read"):
            subjects = read_subjects(visits)
            by_name = {one.name: one for one in subjects}
            in_order = [by_name[name] for name in names]
            maps = read_label_maps(labels, [one.read() for one in in_order] if labels else [])
        digests = [[one.name, one.digest] for one in in_order], [digest_of(one) for one in maps]
        key = text_hash([settings.metrics(), digests, jacobian, str(chosen), versions()["stn3d"]])
        summary = folder.finished(key)
        if summary is None:
            refuse_inputs(_outputs(folder, names), [visits, labels])
            folder.begin()
            count = len(visits) * (len(visits) - 1)
            count += len(visits) * (settings.iterations + 1) if jacobian else 0
            with opened_runs(settings, count, progress) as runs:
                builder = Builder(subjects, folder, settings, runs, clock)
                content, values, space = _rigid(builder)
                if jacobian:
                    of_visits = dict(zip(names, maps, strict=False))
                    files = _deformed(builder, values, space, names, of_visits, chosen)
                else:
                    files = _saved(builder, values, space)
            summary = folder.finish(builder.summary(key, names, space) | content, files)
        return Template(folder.path, summary)


def _outputs(folder: Folder, names: Sequence[str]) -> list[Path]:
    """Files that are written, to compare them with the inputs."""
    own = ("transform.h5", "inverse.h5", "moved.nii.gz", "jacobian.nii.gz")
    return [folder.template, *(folder.path / name / file for name in names for file in own)]


def _rigid(builder: Builder) -> tuple[dict[str, Any], Tensor, Space]:
    """The midpoint space and the mean of the visits in it; the poses are those of the builder.

    Returns:
        Metrics, the values of the template, and its space.

    Raises:
        InputError: a registration failed.
    """
    visits = builder.subjects
    with builder.clock("rigid"):
        pairs, gaps = _pairs(builder)
        poses = midpoint_poses(pairs, len(visits))
        residuals = [
            _distance_mm(pair, product(_inverse(poses[i]), poses[j]), visits[i].grid)
            for (i, j), pair in pairs.items()
        ]
        grids = [one.grid for one in visits]
        spacing = builder.settings.spacing_mm or template_spacing_mm(grids)
        grid = template_grid(grids, poses, spacing)
        inside = [_inverse(p)(v.centroid_mm) for p, v in zip(poses, visits, strict=True)]
        space = Space(grid, torch.stack(inside).mean(0))
        mean = MeanImage(grid, None, visits[0].is_ct)
        for visit, pose in zip(visits, poses, strict=True):
            mean.add(visit.read(), pose)
        builder.poses = {one.name: pose for one, pose in zip(visits, poses, strict=True)}
    metrics = {
        "within_subject": True,
        "forward_backward_mm": max(gaps),
        "pose_residual_mm": max(residuals),
    }
    return metrics, sharpened(mean.result(), builder.settings.sharpening), space


def _pairs(builder: Builder) -> tuple[dict[tuple[int, int], Affine], list[float]]:
    """Inverse-consistent transforms between all pairs, and how far both directions are apart, mm.

    Raises:
        InputError: a registration failed.
    """
    visits = builder.subjects
    keys = list(combinations(range(len(visits)), 2))
    options = builder.settings.registration(builder.settings.preset, "rigid")
    jobs = []
    for i, j in keys:
        for a, b in ((visits[i], visits[j]), (visits[j], visits[i])):
            job = builder.job(b, "pairs", options, (a.source, a.digest))
            name = f"{a.name}_to_{b.name}"
            jobs.append(replace(job, name=name, record=job.record.with_name(f"{name}.json")))
    found = builder.runs.run(jobs, "pairs of visits")
    for one in found:
        if one.failed:
            raise InputError(
                f"the registration {one.name} failed ({one.metrics['reason']}); check that the "
                "visits are of one subject, or give another --metric."
            )
    pairs, gaps = {}, []
    for key, forward, backward in zip(keys, found[::2], found[1::2], strict=True):
        there, back = forward.linear(), backward.linear()
        pairs[key] = inverse_consistent(there, back)
        gaps.append(_distance_mm(there, _inverse(back), visits[key[0]].grid))
    return pairs, gaps


def _inverse(pose: Linear) -> Affine:
    return Affine.from_matrix(torch.linalg.inv(pose.matrix))


def _distance_mm(one: Linear, other: Linear, grid: Grid) -> float:
    """Mean distance between where two transforms map a grid."""
    points = grid.with_shape([min(n, 10) for n in grid.shape]).points_mm()
    return float((one(points) - other(points)).norm(dim=-1).mean())


def _saved(builder: Builder, values: Tensor, space: Space) -> list[Path]:
    """Write the rigid template, and for each visit the moved image, its transforms and metrics."""
    builder.written(values, space.grid, builder.folder.template)
    template, files = image_on(values, space.grid, "template"), [builder.folder.template]
    for visit in builder.subjects:
        folder = make_folder(builder.folder.path / visit.name)
        image, pose = visit.read(), builder.poses[visit.name]
        back = _inverse(pose)
        moved = warp_image(image.values, image.grid, pose, space.grid)
        case = EvaluationCase(template, image)
        content = {
            "fixed": {"name": template.name},
            "moving": {"name": image.name},
            "before": evaluate_case(case, Affine.identity(pose.ndim)).to_dict(),
            "after": evaluate_case(case, pose, back, moved).to_dict(),
        }
        builder.results[visit.name] = {"correlation": content["after"]["correlation"]}
        paths = [folder / n for n in ("moved.nii.gz", "transform.h5", "inverse.h5", "metrics.json")]
        with ExitStack() as stack:
            parts = [stack.enter_context(atomic_write(path)) for path in paths]
            write_image(parts[0], moved, template)
            write_transform(parts[1], pose)
            write_transform(parts[2], back)
            parts[3].write_text(json.dumps(content, indent=2) + "\n", encoding="utf8")
        files += paths
    return files


def _deformed(
    builder: Builder,
    values: Tensor,
    space: Space,
    names: Sequence[str],
    maps: Mapping[str, Image],
    outputs: Outputs,
) -> list[Path]:
    """Iterate with deformations, register finally, and write the maps of volume change.

    Args:
        builder: the build.
        values: the rigid template.
        space: its space.
        names: names of the visits in the order of time.
        maps: label map of each visit, if there are any.
        outputs: files of each visit.
    """
    files = builder.deformed(space, values, outputs)
    with builder.clock("volumes"):
        transforms = {n: read_transform(builder.folder.path / n / "transform.h5") for n in names}
        determinants = []
        for name in names:
            files.append(builder.folder.path / name / "jacobian.nii.gz")
            determinants.append(write_jacobian(files[-1], transforms[name], space.grid))
        for (one, before), (other, after) in pairwise(zip(names, determinants, strict=True)):
            path = make_folder(builder.folder.path / "changes") / f"{one}_to_{other}.nii.gz"
            write_map(path, ratio(after, before), space.grid)
            files.append(path)
        if maps:
            of_maps = [
                label_volumes_ml(maps[n], transforms[n], space.grid, determinants) for n in names
            ]
            builder.further["volume_changes"] = changes(mean_volumes_ml(of_maps), names)
    return files
