"""Evaluation from files or data in memory: pairs, tables of pairs, comparison of methods."""

from stn3d.scoring.api import PairData, evaluate, evaluate_data
from stn3d.scoring.comparison import BootstrapSettings, Comparison, Summary, compare, summarise
from stn3d.scoring.label_choice import chosen_labels
from stn3d.scoring.pairs import PairResult, PairRow, evaluate_pairs, pairs_json, read_pairs
from stn3d.scoring.tables import label_table_csv

__all__ = [
    "BootstrapSettings",
    "Comparison",
    "PairData",
    "PairResult",
    "PairRow",
    "Summary",
    "chosen_labels",
    "compare",
    "evaluate",
    "evaluate_data",
    "evaluate_pairs",
    "label_table_csv",
    "pairs_json",
    "read_pairs",
    "summarise",
]
