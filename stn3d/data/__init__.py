"""What networks are trained on: synthetic samples without end, and a user's own pairs."""

from stn3d.data.batches import Batches, Endless, collate
from stn3d.data.datalist import read_pairs
from stn3d.data.digits import DigitBatches, fixed_batches
from stn3d.data.pairs import LoadPair, pair_dataset, working_grid
from stn3d.data.subjects import find_subjects, pairs_or_samples

__all__ = [
    "Batches",
    "DigitBatches",
    "Endless",
    "LoadPair",
    "collate",
    "find_subjects",
    "fixed_batches",
    "pair_dataset",
    "pairs_or_samples",
    "read_pairs",
    "working_grid",
]
