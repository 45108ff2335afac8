"""Spatial transformer networks on distorted MNIST: the tables of the literature.

    python -m scripts.bench mnist run --list
    python -m scripts.bench mnist run --work DIR [--rows "TC: CNN,R: *"] [--steps 12000] [--threads
    2]

A row is one network on one task of stn3d/synth/digits.py. ``run`` trains the rows one after the
other, each in its own folder of DIR, and continues an interrupted training; finished rows are kept.
Training uses the first 55,000 digits of MNIST's training set, with new distortions at every step;
the last 5,000, with fixed distortions, are held out for choosing rates and widths. The final
weights are evaluated, not the best ones. The 10,000 test digits, with fixed distortions, are used
once, when a row is finished. All finished rows of DIR are then added to the results, and pictures
are drawn.
"""

from scripts.bench.studies.mnist.page import report
from scripts.bench.studies.mnist.study import Options, run

__all__ = ["Options", "report", "run"]
