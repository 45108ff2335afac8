"""Metrics of labels as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from stn3d.evaluation import LABEL_METRICS, Evaluation

_COUNTS = ("fixed_voxels", "moving_voxels", "moved_voxels")


def label_table_csv(
    evaluations: Sequence[tuple[Mapping[str, str], Evaluation]],
) -> str:
    """A CSV table with a row for each label of each evaluation, omitted labels included.

    Args:
        evaluations: further columns, such as pair and method, and the evaluation.

    Returns:
        The columns given, ``label``, ``name``, numbers of voxels, every metric that was measured,
        and ``omitted``, the reason why a label or its distances are not measured. Cells are empty
        where a metric is not defined.
    """
    given = list(dict.fromkeys(key for columns, _ in evaluations for key in columns))
    measured = [
        metric
        for metric in LABEL_METRICS
        if any(
            getattr(one, metric) is not None for _, e in evaluations for one in e.labels.values()
        )
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*given, "label", "name", *_COUNTS, *measured, "omitted"])
    for columns, evaluation in evaluations:
        for label in sorted({*evaluation.labels, *evaluation.omitted_labels}):
            one = evaluation.labels.get(label)
            cells = [_cell(getattr(one, key, None)) for key in (*_COUNTS, *measured)]
            writer.writerow(
                [
                    *(columns.get(key, "") for key in given),
                    label,
                    evaluation.options.names.get(label, ""),
                    *cells,
                    evaluation.omitted_labels.get(label, ""),
                ]
            )
    return text.getvalue()


def _cell(value: Any) -> str:
    """A number in full precision; empty for what is not defined."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return repr(value)
