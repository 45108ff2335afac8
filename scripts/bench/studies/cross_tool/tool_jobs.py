"""Applies and writes transforms with ANTs, greedy and elastix; imports nothing of stn3d.

    PYTHON tool_jobs.py

Each line of the standard input is a job in JSON, and each has a line of output. The interpreter
needs the tools only. Points are ``.npy`` files of RAS positions.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

FLIP = np.array([-1.0, -1.0, 1.0])


def ants_apply(job: dict[str, Any]) -> None:
    """Resample the moving image, and map points."""
    import ants
    import pandas as pd

    fixed, moving = (ants.image_read(job[name]) for name in ("fixed", "moving"))
    moved = ants.apply_transforms(fixed, moving, job["files"], interpolator="linear")
    ants.image_write(moved, job["image_out"])
    points = pd.DataFrame(np.load(job["points"]) * FLIP, columns=["x", "y", "z"])
    mapped = ants.apply_transforms_to_points(3, points, job["files"])
    np.save(job["points_out"], mapped[["x", "y", "z"]].to_numpy() * FLIP)


def ants_write(job: dict[str, Any]) -> None:
    """Register the images."""
    import ants

    fixed, moving = (ants.image_read(job[name]) for name in ("fixed", "moving"))
    ants.registration(
        fixed, moving, "SyN", outprefix=job["prefix"], reg_iterations=(20, 10), random_seed=1
    )


def greedy_apply(job: dict[str, Any]) -> None:
    """Resample the moving image, and map the points of a mesh."""
    from picsl_greedy import Greedy3D

    files = " ".join(f'"{file}"' for file in job["files"])
    mesh, mapped = Path(job["points_out"]).with_suffix(".vtk"), Path(job["image_out"] + ".vtk")
    points = np.load(job["points"])
    rows = "\n".join(" ".join(f"{x:.9g}" for x in row) for row in points)
    mesh.write_text(
        "# vtk DataFile Version 3.0\npoints\nASCII\nDATASET POLYDATA\n"
        f"POINTS {len(points)} double\n{rows}\nVERTICES {len(points)} {2 * len(points)}\n"
        + "".join(f"1 {n}\n" for n in range(len(points)))
    )
    Greedy3D().execute(
        f'-threads 1 -rf "{job["fixed"]}" -rm "{job["moving"]}" "{job["image_out"]}" '
        f'-rs "{mesh}" "{mapped}" -r {files}'
    )
    np.save(job["points_out"], _vtk_points(mapped, len(points)))


def _vtk_points(path: Path, count: int) -> Any:
    """Points of a legacy VTK file, as text or binary."""
    data = path.read_bytes()
    match = re.search(rb"POINTS \d+ (\w+)\s*?\n", data)
    assert match is not None
    kind = {b"float": ">f4", b"double": ">f8"}[match[1]]
    if b"BINARY" in data[:200]:
        return np.frombuffer(data, kind, 3 * count, match.end()).reshape(-1, 3)
    words = data[match.end() :].split()[: 3 * count]
    return np.array([float(word) for word in words]).reshape(-1, 3)


def greedy_write(job: dict[str, Any]) -> None:
    """Register the images."""
    from picsl_greedy import Greedy3D

    tool, (affine, warp) = Greedy3D(), job["files"]
    pair = f'-threads 1 -i "{job["fixed"]}" "{job["moving"]}" -m NCC 2x2x2'
    tool.execute(f'{pair} -a -dof 12 -ia-identity -n 30x20 -o "{affine}"')
    tool.execute(f'{pair} -it "{affine}" -n 20x10 -o "{warp}"')


def elastix_apply(job: dict[str, Any]) -> None:
    """Run transformix on the moving image, and on points."""
    import itk

    moving = itk.imread(job["moving"], itk.F)
    found = itk.ParameterObject.New()
    for file in job["files"]:
        found.AddParameterFile(file)
    itk.imwrite(itk.transformix_filter(moving, found), job["image_out"])
    points = np.load(job["points"]) * FLIP
    folder = Path(job["points_out"]).parent
    text = folder / "points.txt"
    rows = "\n".join(" ".join(f"{x:.9f}" for x in row) for row in points)
    text.write_text(f"point\n{len(points)}\n{rows}\n")
    itk.transformix_filter(
        moving, found, fixed_point_set_file_name=str(text), output_directory=str(folder)
    )
    lines = (folder / "outputpoints.txt").read_text()
    mapped = re.findall(r"OutputPoint = \[ ([^\]]+) \]", lines)
    np.save(job["points_out"], np.array([row.split() for row in mapped], float) * FLIP)


def elastix_write(job: dict[str, Any]) -> None:
    """Write parameter files of several classes of transforms."""
    import itk

    found = itk.ParameterObject.New()
    found.AddParameterMap({name: [str(v) for v in values] for name, values in job["map"].items()})
    found.WriteParameterFile(job["files"][0])


JOBS = {
    "ants apply": ants_apply,
    "ants write": ants_write,
    "greedy apply": greedy_apply,
    "greedy write": greedy_write,
    "elastix apply": elastix_apply,
    "elastix write": elastix_write,
}


def main() -> None:
    """Run the jobs: ``job`` names one of `JOBS`, its other entries are the arguments."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # tools print
    for line in sys.stdin:
        job = json.loads(line)
        try:
            JOBS[job["job"]](job)
            answer = "done"
        except Exception as error:
            answer = f"{type(error).__name__}: {error}".partition("\n")[0][:300]
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    main()
