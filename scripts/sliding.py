#!/usr/bin/env python3
"""Lungs that slide along the chest wall by a known truth: stn3d beside peers.

    scripts/sliding.py --work DIR --out docs/results/sliding [--peer-python peers/bin/python]
        [options of scripts/benchmark.py]

The images are ../shared/data/lung_mr, three people. In each column of voxels that holds lung, all
from the lung's top downwards sinks, by 0 at the top up to --sink-mm at --reach-mm below it, as a
diaphragm that goes down takes it along; the chest wall beside it stays. So the motion has a jump
all along the wall, as breathing has, and nothing is torn or doubled, for it keeps to its columns.
The image as it is moves, the image read through the motion is fixed; noise of 1 % on both.

Landmarks are 300 points of the fixed image's lungs; their error after registration is the figure.
"stn3d by labels" is steered by the lungs of both images; no landmark steers anything.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import benchmark
import numpy as np
from bodies import LUNGS, Scan, load, write_pair
from numpy.typing import NDArray
from scipy import ndimage

TOOLS = "before,stn3d default,stn3d by labels,elastix,ants-syn,greedy"
POINTS = 300


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the pairs")
    parser.add_argument("--sink-mm", default="15,25", help="motions at the lungs' base")
    parser.add_argument("--reach-mm", type=float, default=150.0)
    parser.add_argument("--tools", default=TOOLS)
    args, further = parser.parse_known_args(arguments)
    pairs = args.work / "pairs"
    shutil.rmtree(pairs, ignore_errors=True)
    for seed, person in enumerate(LUNGS):
        for sink_mm in map(float, args.sink_mm.split(",")):
            fixed, moving = sliding_pair(person, sink_mm, args.reach_mm, seed)
            write_pair(pairs / f"{person}-{sink_mm:g}mm", "", fixed, moving)
    about = (__doc__ or "").split("\n\n", 1)[1].strip("\n")
    benchmark.main([str(pairs), "--tools", args.tools, "--about", about, *further])


def sliding_pair(person: str, sink_mm: float, reach_mm: float, seed: int) -> tuple[Scan, Scan]:
    """The fixed and the moving image of one person, with the lungs and landmarks of both."""
    values, affine = load(f"lung_mr/{person}")
    lungs = load(f"lung_mr/{person}_lobes")[0].round() > 0
    axis, upwards = vertical(affine)
    step_mm = float(np.linalg.norm(affine[:3, axis]))
    depth = moves_vox(lungs, axis, upwards, sink_mm / step_mm, reach_mm / step_mm)
    index = np.indices(values.shape).astype(float)
    index[axis] += depth
    seen = ndimage.map_coordinates(values.astype(float), index, order=1, mode="nearest")
    fixed_lungs = ndimage.map_coordinates(lungs.astype(float), index, order=1) > 0.5
    draws = np.random.default_rng(seed)
    noise = 0.01 * np.percentile(values, 99)
    images = [image + noise * draws.standard_normal(image.shape) for image in (seen, values)]
    chosen = draws.choice(np.argwhere(fixed_lungs), POINTS, replace=False)
    goals = index[(slice(None), *chosen.T)].T
    points_mm = [points @ affine[:3, :3].T + affine[:3, 3] for points in (chosen, goals)]
    return (
        Scan(images[0], affine, fixed_lungs, points_mm[0]),
        Scan(images[1], affine, lungs, points_mm[1]),
    )


def vertical(affine: NDArray[np.float64]) -> tuple[int, int]:
    """The axis of voxels that runs most along the body, and 1 if it runs upwards, else -1."""
    axis = int(np.argmax(np.abs(affine[2, :3])))
    return axis, 1 if affine[2, axis] > 0 else -1


def moves_vox(
    lungs: NDArray[np.bool_], axis: int, upwards: int, sink_vox: float, reach_vox: float
) -> NDArray[np.float64]:
    """Where each voxel of the fixed image is read, along the axis, in voxels from where it is.

    The fixed image is that in which the lungs have sunk, so what it shows lies higher up in the
    moving one; by a smooth step from 0 at a column's top, whose slope stays below 1.
    """
    along = np.moveaxis(lungs, axis, -1)
    number = np.arange(along.shape[-1])
    if upwards > 0:
        top = along.shape[-1] - 1 - np.argmax(along[..., ::-1], axis=-1)
        below = top[..., None] - number
    else:
        top = np.argmax(along, axis=-1)
        below = number - top[..., None]
    share = np.clip(below / reach_vox, 0, 1)
    moves = upwards * sink_vox * share**2 * (3 - 2 * share) * along.any(axis=-1)[..., None]
    return np.moveaxis(moves, -1, axis)


if __name__ == "__main__":
    main()
