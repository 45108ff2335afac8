"""The result of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stn3d.evaluation.json_values import json_value
from stn3d.evaluation.label_metrics import LABEL_METRICS, LabelMetrics, LabelResults
from stn3d.evaluation.options import EvaluationOptions


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Metrics of a pair; docs/metrics.md defines each, docs/metrics-json.md lists the keys.

    NaN stands for a metric that is not defined, None for one that was not measured.

    Args:
        options: what was measured, and by which definitions.
        image: metrics of the images: ``region``, ``fov_overlap_pct``, ``correlation``,
            ``local_correlation``; empty for an evaluation of labels alone.
        jacobian: metrics of the Jacobian determinant: ``folding_pct``,
            ``folding_whole_field_pct``, ``log_jacobian_sd`` (``sdlogj`` for ``l2r``),
            ``jacobian_min``, ``jacobian_max``, ``abs_log_jacobian_p999``,
            ``log_jacobian_extreme_at_mm``, ``ndv_pct``, ``ndv_ml``; empty likewise.
        label_results: metrics of the labels.
        tre_mm: statistics of the target registration error, see `stn3d.metrics.tre_mm`.
        landmark_robustness: share of landmarks that the transform improves, 0 to 1.
        true_error_mm: ``mean``, ``p95`` and ``max`` of the distance to the true transform.
        inverse_consistency_error_mm: ``mean``, ``p95`` and ``max``.
    """

    options: EvaluationOptions
    image: dict[str, Any] = field(default_factory=dict)
    jacobian: dict[str, Any] = field(default_factory=dict)
    label_results: LabelResults | None = None
    tre_mm: dict[str, float] | None = None
    landmark_robustness: float | None = None
    true_error_mm: dict[str, float] | None = None
    inverse_consistency_error_mm: dict[str, float] | None = None

    @property
    def labels(self) -> dict[int, LabelMetrics]:
        """Metrics of each measured label; empty without labels."""
        return {} if self.label_results is None else self.label_results.labels

    @property
    def omitted_labels(self) -> dict[int, str]:
        """The reason for each label that is not measured, or only in part."""
        return {} if self.label_results is None else self.label_results.omitted

    @property
    def dice(self) -> float | None:
        """Mean Dice coefficient of the labels."""
        return self._mean("dice")

    @property
    def hd95_mm(self) -> float | None:
        """Mean HD95 of the labels, in mm."""
        return self._mean("hd95_mm")

    @property
    def assd_mm(self) -> float | None:
        """Mean average symmetric surface distance of the labels, in mm."""
        return self._mean("assd_mm")

    @property
    def nsd(self) -> float | None:
        """Mean normalised surface Dice of the labels."""
        return self._mean("nsd")

    def _mean(self, metric: str) -> float | None:
        return None if self.label_results is None else self.label_results.mean(metric)

    def to_dict(self) -> dict[str, Any]:
        """Everything that was measured, for JSON; None in place of NaN and infinity."""
        found: dict[str, Any] = {"protocol": self.options.protocol, **self.image, **self.jacobian}
        if self.label_results is not None:
            found |= {key: mean for key in LABEL_METRICS if (mean := self._mean(key)) is not None}
            if self.options.tolerance_mm is not None:
                found["nsd_tolerance_mm"] = float(self.options.tolerance_mm)
            found["labels"] = {str(label): one.to_dict() for label, one in self.labels.items()}
            found["omitted_labels"] = {str(k): v for k, v in self.omitted_labels.items()}
        others = {
            "tre_mm": self.tre_mm,
            "landmark_robustness": self.landmark_robustness,
            "true_error_mm": self.true_error_mm,
            "inverse_consistency_error_mm": self.inverse_consistency_error_mm,
        }
        found |= {key: value for key, value in others.items() if value is not None}
        result: dict[str, Any] = json_value(found)
        return result
