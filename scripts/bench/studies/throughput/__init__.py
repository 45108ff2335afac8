"""Training throughput of stn3d's networks and MONAI's, with the same pairs on the same grid.

    python -m scripts.bench throughput run [--device cuda] [--shape 64,64,64] [--batch-size 1]
        [--threads 2] [--networks LocalNet,VoxelMorph] [--again]

A step is forward, loss, backward, clipping and AdamW, as in training; a time is the best of
--repeats runs of --steps steps, after two that are not counted. Synthetic pairs of random shapes
are made beforehand and are on the device. Networks and losses are in networks.py. bfloat16 is
torch's autocast around the network.

Each network is measured in a process of its own (child.py). Peak memory is what torch allocated on
CUDA, and that of the whole process on the CPU. Rows of other machines and grids are kept.
"""

from scripts.bench.studies.throughput.page import report
from scripts.bench.studies.throughput.study import Options, run

__all__ = ["Options", "report", "run"]
