"""The settings that a user asks for, completed by what was selected automatically."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from stn3d.choices import AUTOMATIC, MetricName
from stn3d.losses.similarity import METRICS
from stn3d.registration.automatic import SelectedMetric, may_differ
from stn3d.registration.features import FeatureChoice
from stn3d.registration.memory import Budget
from stn3d.registration.settings import Settings, settings_from


@dataclass(frozen=True)
class Request:
    """The settings asked for, and what they are with a metric that was selected.

    Args:
        options: Keys of `Settings`; None means not given.
        config: Further keys.
    """

    options: dict[str, Any]
    config: Mapping[str, Any]

    @cached_property
    def settings(self) -> Settings:
        """The settings asked for."""
        return settings_from(self.options, self.config)

    def with_metric(self, metric: MetricName, selected: SelectedMetric | None) -> Settings:
        """The settings with the metric of the linear stages and its selection, if there is one."""
        chosen = self._deformable_selection(selected)
        deformable = None if chosen is None else chosen.deformable_metric
        return self._with_metrics(metric, deformable)

    def with_features(
        self,
        metric: MetricName,
        selected: SelectedMetric | None,
        within_memory: Callable[[Settings], Budget],
    ) -> FeatureChoice | None:
        """The settings with features of the deformable stage, within the memory allowed; None where
        they cannot be used.

        A metric or an estimator that the user asks for is used as it is.

        Args:
            metric: Metric of the linear stages.
            selected: The automatic selection of the metric; None if the metric was given.
            within_memory: `stn3d.registration.memory.budget` for the images.
        """
        settings, chosen = self.settings, self._deformable_selection(selected)
        optimised = settings.estimator in ("auto", "optimiser")
        if settings.features == "none" or not optimised or chosen is None:
            return None
        different = METRICS[metric].contrast == "different"
        if not different and not may_differ(chosen):
            return None
        with_tissues = within_memory(self._with_metrics(metric, AUTOMATIC.same)).settings
        return FeatureChoice(with_tissues, only_if_reversed=not different)

    def _deformable_selection(self, selected: SelectedMetric | None) -> SelectedMetric | None:
        """The selection, where it includes the metric of the deformable stage."""
        return selected if self.settings.deformable_metric is None else None

    def _with_metrics(self, metric: MetricName, deformable: MetricName | None) -> Settings:
        changes: dict[str, Any] = {"metric": metric}
        if deformable is not None:
            changes["deformable_metric"] = deformable
        return settings_from({**self.options, **changes}, self.config)
