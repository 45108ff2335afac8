"""Metrics of a transform on a pair of images."""

from stn3d.evaluation.case import EvaluationCase
from stn3d.evaluation.excluded_regions import excluded_region_metrics
from stn3d.evaluation.pair_metrics import evaluate

__all__ = [
    "EvaluationCase",
    "evaluate",
    "excluded_region_metrics",
]
