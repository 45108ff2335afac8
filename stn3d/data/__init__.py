"""Training data: batches of synthetic samples, and pairs of image files."""

from stn3d.data.batches import InfiniteBatchSampler, InfiniteDataset, collate
from stn3d.data.datalist import read_pairs
from stn3d.data.digits import DigitBatches, evaluation_batches
from stn3d.data.pairs import LoadPair, pair_dataset, working_grid
from stn3d.data.subjects import evaluation_dataset, load_subjects
from stn3d.io.pair_tables import pair_names

__all__ = [
    "DigitBatches",
    "InfiniteBatchSampler",
    "InfiniteDataset",
    "LoadPair",
    "collate",
    "evaluation_batches",
    "evaluation_dataset",
    "load_subjects",
    "pair_dataset",
    "pair_names",
    "read_pairs",
    "working_grid",
]
