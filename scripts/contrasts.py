#!/usr/bin/env python3
"""T1 to T2 and FLAIR with a known truth: networks, both, the optimiser and greedy by information.

    scripts/contrasts.py --work DIR --out docs/results/contrasts [--seeds 1,2,3,4,5]
        [--pairs "t1 t2,t1 flair"] [--peer-python peers/bin/python]
        [further options of scripts/benchmark.py]

A pair is "FIXED MOVING", two contrasts of one person (../shared/data/contrasts). The moving one is
carried along a random affine and a random smooth diffeomorphism on a grid of its own, with noise
and a bias field: ../shared/bench/make_truth.py with its defaults (up to 10 degrees about each axis,
up to 10 mm, scale 1.1, a velocity of up to 8 mm), one for each pair and seed. They are made once,
in DIR; scripts/benchmark.py then measures every tool on every one and goes on where a run was cut
off. "error mm" is the mean distance from the truth over the fixed foreground.
"""

# No import of stn3d or numpy here either: see scripts/benchmark.py.
from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import benchmark

SHARED = Path(__file__).resolve().parents[2] / "shared"
PAIRS = "t1 t2,t1 flair"
TOOLS = (
    "stn3d nmi,stn3d nmi fast,stn3d network,stn3d both,stn3d both fast,stn3d fast,stn3d default,"
    "greedy-nmi"
)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the pairs")
    parser.add_argument("--seeds", default="1,2,3,4,5", help="of make_truth.py")
    parser.add_argument("--pairs", default=PAIRS)
    parser.add_argument("--tools", default=TOOLS)
    args, further = parser.parse_known_args(arguments)
    try:
        seeds = [int(seed) for seed in args.seeds.split(",")]
    except ValueError:
        raise SystemExit(f"--seeds {args.seeds!r}: give whole numbers such as 1,2,3.") from None
    pairs = args.work / "pairs"
    names = [pair.split() for pair in args.pairs.split(",")]
    if any(len(name) != 2 for name in names):
        raise SystemExit(f"--pairs {args.pairs!r}: give pairs such as {PAIRS!r}.")
    wanted = [make_pair(pairs, moving, seed, fixed) for fixed, moving in names for seed in seeds]
    others = sorted({path for path in pairs.iterdir() if path.is_dir()} - set(wanted))
    if others:
        raise SystemExit(f"{pairs} also holds {others[0].name}; give its seed or another --work.")
    benchmark.main([str(pairs), "--tools", args.tools, *further])


def make_pair(
    pairs: Path, contrast: str, seed: int, fixed_contrast: str = "t1", options: Sequence[str] = ()
) -> Path:
    """A folder that scripts/benchmark.py reads as a pair, made whole or not at all.

    Args:
        pairs: the folder of all pairs.
        contrast: of the moving image, such as ``t2`` or ``flair``.
        seed: of the true transform, the noise and the bias field.
        fixed_contrast: of the fixed image.
        options: further ones of make_truth.py.

    Returns:
        The pair's folder, made now or before.

    Raises:
        SystemExit: the data are not there, or make_truth.py failed.
    """
    name = contrast if fixed_contrast == "t1" else f"{fixed_contrast}-{contrast}"
    made = pairs / f"{name}-{seed}"
    if made.is_dir():
        return made
    fixed, moving = (contrast_path(c) for c in (fixed_contrast, contrast))
    script = SHARED / "bench" / "make_truth.py"
    for path in (fixed, moving, script):
        if not path.is_file():
            raise SystemExit(f"no file {path}; these pairs need the project's data there.")
    beside = pairs.with_name("part")
    shutil.rmtree(beside, ignore_errors=True)
    command = [sys.executable, str(script), str(fixed), str(beside), "--seed", str(seed)]
    done = subprocess.run(
        [*command, "--other-contrast", str(moving), *options], capture_output=True, encoding="utf-8"
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]
        raise SystemExit(f"make_truth.py failed on {moving.name}, seed {seed}: {reason}")
    (beside / "fixed.txt").write_text(f"{fixed}\n", encoding="utf-8")
    (beside / "split.txt").write_text(f"{name}\n", encoding="utf-8")
    pairs.mkdir(parents=True, exist_ok=True)
    beside.rename(made)
    print(f"made {made}", flush=True)
    return made


def contrast_path(contrast: str) -> Path:
    return SHARED / "data" / "contrasts" / f"p07_{contrast}.nii.gz"


if __name__ == "__main__":
    main()
