"""Kernel times of a registration against the lower bound set by memory bandwidth.

    python -m scripts.bench floor run [--fixed FILE --moving FILE] [--preset default] [--repeats 3]

Runs the stages of a preset on a pair of images. For every level and every kernel of `stn3d.kernels`
that they call, it compares the measured time with the time that the kernel's bytes need at the
machine's bandwidth. Bytes are counted as STREAM does (McCalpin 1995), and always as a lower bound:

* every voxel of every input once, every voxel of every output once, 4 bytes each, only at the
voxels
  of the kernel's region; that a cache line is read before it is written is not counted;
* an image that is interpolated counts once, with no more voxels than the region has;
* halos (the neighbours that windows and filters read outside the region) are not counted;
* a velocity that a step changes counts twice, read and written;
* what makes a level (its images on a coarser grid, their textured regions) is called "preparing";
* everything else that a stage does is one row, "rest": its whole time minus the kernels', and no
  bytes. It makes the weights, regions and scratch memory.

The bandwidth is the best of twenty runs of STREAM's triad, a = b + s c, before each repeat, by
numba on the package's own threads, on arrays four times the size of the last-level cache. What
small levels read is mostly in the caches. Times are the minimum over the repeats, row by row; the
first repeat also loads or compiles the kernels, so a single one reports too much.
"""

from scripts.bench.studies.floor.measure import Options, run
from scripts.bench.studies.floor.page import report

__all__ = ["Options", "report", "run"]
