"""The page with the table of formats and tools."""

from __future__ import annotations

from pathlib import Path

from scripts.bench import pages
from scripts.bench.store import Row, read

ABOUT = """\
A transform (affine, displacement field, or both) between two images of other grids is written by
stn3d and applied by the tool, and written by the tool and applied by stn3d. Each cell has the
largest difference of 50 mapped points in mm, and of the resampled moving image (linear
interpolation, where all voxels lie inside) in % of its range. An empty cell: the tool has no
such command. Bounds: 0.01 mm and 0.1 %.

* nitransforms exchanges the source and the destination geometry when it writes LTA files, so these
  are read without comparing them with the images. Its FSL fields are not compared: it does not
  apply FSL's voxel sizes and origin. Its ITK .h5 fields are not compared: it flips them.
* nitransforms interpolates fields by cubic splines, so its points are voxel centres.
* MONAI's Warp has no points."""
LIMIT_MM, LIMIT_PCT = 0.01, 0.1
ORIENTATIONS = ("RAS", "LAS", "LPS", "oblique")


def report(folder: Path) -> None:
    """Write README.md from the stored results."""
    results = read(folder)
    lines = ["# Transform files across tools", "", *pages.command(results), ABOUT, ""]
    rows: dict[tuple[str, str, str, str], dict[str, Row]] = {}
    for row in results.done:
        key = row["tool"], row["format"], row["file"], row["written_by"]
        rows.setdefault(key, {})[row["orientation"]] = row
    head = ["tool", "format", "file", "written by", *(f"{name}, mm" for name in ORIENTATIONS)]
    head += [f"{name}, %" for name in ORIENTATIONS]
    cells = [
        [
            *key,
            *(_cell(found.get(name), "points_mm", LIMIT_MM) for name in ORIENTATIONS),
            *(_cell(found.get(name), "image_pct", LIMIT_PCT) for name in ORIENTATIONS),
        ]
        for key, found in rows.items()
    ]
    lines += [*pages.table([head, *cells]), ""]
    lines += pages.failures(results.failed, "{format} {file} by {written_by} ({orientation})")
    above = sum(_is_above(row) for row in results.done)
    lines += ["", f"{len(results.done)} cells, {above} above a bound.", ""]
    pages.write_page(folder, [*lines, *pages.conditions(results)])


def _is_above(row: Row) -> bool:
    return (row["points_mm"] or 0) > LIMIT_MM or (row["image_pct"] or 0) > LIMIT_PCT


def _cell(row: Row | None, name: str, limit: float) -> str:
    """A value; one above the bound is bold."""
    if row is None or row[name] is None:
        return ""
    text = f"{row[name]:.0e}"
    return f"**{text}**" if row[name] > limit else text
