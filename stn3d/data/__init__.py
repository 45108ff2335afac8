"""What networks are trained on: synthetic samples without end, and a user's own pairs."""

from stn3d.data.batches import InfiniteBatchSampler, InfiniteDataset, collate
from stn3d.data.datalist import read_pairs
from stn3d.data.digits import DigitBatches, evaluation_batches
from stn3d.data.pairs import LoadPair, pair_dataset, working_grid
from stn3d.data.subjects import load_subjects, evaluation_dataset

__all__ = [
    "InfiniteBatchSampler",
    "DigitBatches",
    "InfiniteDataset",
    "LoadPair",
    "collate",
    "load_subjects",
    "evaluation_batches",
    "pair_dataset",
    "evaluation_dataset",
    "read_pairs",
    "working_grid",
]
