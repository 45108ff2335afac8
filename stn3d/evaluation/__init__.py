"""Metrics of a transform on a pair of images."""

from stn3d.evaluation.case import EvaluationCase
from stn3d.evaluation.excluded_regions import excluded_region_metrics
from stn3d.evaluation.label_metrics import LABEL_METRICS, LabelMetrics, LabelResults, measure_labels
from stn3d.evaluation.options import EvaluationOptions
from stn3d.evaluation.pair_metrics import evaluate_case
from stn3d.evaluation.result import Evaluation

__all__ = [
    "LABEL_METRICS",
    "Evaluation",
    "EvaluationCase",
    "EvaluationOptions",
    "LabelMetrics",
    "LabelResults",
    "evaluate_case",
    "excluded_region_metrics",
    "measure_labels",
]
