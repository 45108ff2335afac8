"""Affine registration from random initial poses: how often it converges, compared with greedy.

    python -m scripts.bench initialisation run [--count 200] [--methods default,header,...]
        [--tools-python tools/bin/python] [--greedy-count 40] [--threads 1]

A case is a pair of images whose moving one is rotated by up to 60 degrees about any axis,
translated by up to 40 mm along each axis from where the centres of the fields of view coincide, and
scaled by 0.8 to 1.25. All of it goes into the header; no voxel is resampled. Every other pair is T1
of two people (shared/data/brains), the rest T1 and T2 or FLAIR of one person
(shared/data/contrasts). Numbers are drawn from the seed and the case's number alone.

The reference is the identity for one person; for two people it is the affine of least LNCC loss at
2 mm among those of stn3d, greedy, and stn3d initialised by greedy's affine, without initial
displacement, kept in references.json. An error is the mean distance to it over the fixed brain, in
mm of the moving person; below 3 mm is a success.

default: the optimiser with its own initialisation. header: the optimiser initialised from the
headers. network: the optimiser initialised by the affine network. "network only": the network's
result without optimisation. greedy: its affine from its own initialisation (-moments 2: principal
axes in all pairings, the best by the metric), NCC for brains, NMI for contrasts, for the first
--greedy-count cases. stn3d is timed within this process, from files to the transform and the moved
image (the network only: to the affine), after one run that is not counted; greedy as a process of
its own, from files to the matrix. greedy is omitted where it is not installed.
"""

from scripts.bench.studies.initialisation.measure import Options, run
from scripts.bench.studies.initialisation.page import report

__all__ = ["Options", "report", "run"]
