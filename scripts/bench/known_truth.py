"""Pairs whose true transform is known, made by ``shared/bench/make_truth.py``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.bench import paths
from scripts.bench.paths import contrast_path, existing


def make_known(fixed: Path, seed: int, made: Path, options: Sequence[str] = ()) -> Path:
    """Deform an image by a random transform; the folder appears completely or not at all.

    Args:
        fixed: the fixed image.
        seed: of the transform, the noise and the bias field.
        made: folder of moving.nii.gz and truth.h5 (fixed points to moving points); it is kept if it
            exists.
        options: further ones of make_truth.py.

    Returns:
        ``made``.

    Raises:
        SystemExit: the script is not there, or it failed.
    """
    if made.is_dir():
        return made
    script = existing(paths.SHARED / "bench" / "make_truth.py")
    part = made.parent.with_name(f"{made.parent.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(script), str(fixed), str(part), "--seed", str(seed), *options]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    if done.returncode:
        shutil.rmtree(part, ignore_errors=True)
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise SystemExit(f"make_truth.py failed for {made.name}: {reason}")
    made.parent.mkdir(parents=True, exist_ok=True)
    part.rename(made)
    return made


def make_contrast_pair(
    pairs: Path, moving: str, seed: int, fixed: str = "t1", options: Sequence[str] = ()
) -> Path:
    """A folder that `scripts.bench.pairs` reads as a pair: two MR contrasts of one person.

    Args:
        pairs: the folder of all pairs.
        moving: contrast of the moving image, such as ``t2`` or ``flair``.
        seed: see `make_known`.
        fixed: contrast of the fixed image.
        options: see `make_known`.

    Returns:
        The pair's folder, made now or before.

    Raises:
        SystemExit: the data are not there, or make_truth.py failed.
    """
    name = moving if fixed == "t1" else f"{fixed}-{moving}"
    images = [contrast_path(contrast) for contrast in (fixed, moving)]
    other = ["--other-contrast", str(images[1])]
    made = make_known(images[0], seed, pairs / f"{name}-{seed}", [*other, *options])
    if not (made / "split.txt").is_file():
        (made / "fixed.txt").write_text(f"{images[0]}\n", encoding="utf-8")
        (made / "split.txt").write_text(f"{fixed} <- {moving}\n", encoding="utf-8")
        print(f"made {made}", flush=True)
    return made


def contrast_pairs(text: str) -> list[tuple[str, str]]:
    """Pairs of names from ``"FIXED MOVING,FIXED MOVING"``.

    Raises:
        SystemExit: a pair is not two names.
    """
    found = [pair.split() for pair in text.split(",")]
    if any(len(pair) != 2 for pair in found):
        raise SystemExit(f"--pairs {text!r}: give pairs such as 'fixed moving,fixed moving'.")
    return [(fixed, moving) for fixed, moving in found]
