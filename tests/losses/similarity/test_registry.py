"""The registry of metrics, what each object must state, and a metric that a test adds."""

from __future__ import annotations

import ast
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

import stn3d
from stn3d import choices
from stn3d.choices import AUTOMATIC, MetricName, Preset
from stn3d.kernels import box_sum
from stn3d.losses import gradient, lncc, mind_descriptor, mse, ncc, nmi
from stn3d.losses.image_loss import image_loss
from stn3d.losses.similarity import METRICS, LossContext
from stn3d.losses.similarity.base import Contrast, ImageMetric
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.memory import estimated_gb
from stn3d.registration.settings import settings_from
from stn3d.transforms import Affine
from tests.helpers.geometry_cases import DIMS, uniform
from tests.helpers.paths import ROOT
from tests.helpers.synthetic import dense_truth, known_pair, plain_grid

LOSSES_OF_TRAINING = "losses/registration.py"  # its terms are options of their own


def test_every_name_has_one_object_that_knows_it() -> None:
    assert set(METRICS) == set(get_args(MetricName)) == set(choices.METRICS)
    assert all(metric.name == name for name, metric in METRICS.items())
    assert len({type(metric) for metric in METRICS.values()}) == len(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_states_what_a_registration_must_know(name: MetricName) -> None:
    metric = METRICS[name]
    assert metric.contrast in get_args(Contrast)
    assert metric.loss_arrays > 0
    assert metric.convincing_loss >= 0
    assert set(metric.stage_settings) <= set(get_args(Preset))
    for preset in get_args(Preset):  # every setting exists and fits
        assert settings_from({"metric": name, "preset": preset}).deformable.metric == name


def test_automatic_selection_chooses_metrics_for_its_contrasts() -> None:
    assert METRICS[AUTOMATIC.same].contrast == METRICS[AUTOMATIC.series].contrast == "same"
    assert METRICS[AUTOMATIC.different].contrast == "different"
    assert METRICS[AUTOMATIC.edges].contrast == "any"


def test_no_other_module_names_a_metric() -> None:
    """Constants in code; the names of functions in ``__all__`` are none."""
    found = []
    for path in sorted((ROOT / "stn3d").rglob("*.py")):
        where = path.relative_to(ROOT / "stn3d").as_posix()
        if where.startswith("losses/similarity/") or where in (LOSSES_OF_TRAINING, "choices.py"):
            continue
        tree = ast.parse(path.read_text(encoding="utf8"))
        public = [
            id(node)
            for statement in tree.body
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__"
            for node in ast.walk(statement)
        ]
        found += [
            f"{where}:{node.lineno} {node.value}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and node.value in METRICS and id(node) not in public
        ]
    assert found == []


def image_of(values: Tensor, mask: Tensor | None = None) -> PreparedImage:
    return PreparedImage(values, plain_grid(values.ndim - 2, values.shape[-1], 1.5), mask)


@pytest.mark.parametrize("ndim", DIMS)
def test_an_object_computes_its_function(ndim: int) -> None:
    """With the statistics of whole images and the window in voxels of the finest axis."""
    shape = (1, 1, *(14,) * ndim)
    a, b = uniform(0, 1, *shape, seed=1).float(), uniform(0, 1, *shape, seed=2).float()
    weight = uniform(0.2, 1, *shape, seed=3).float()
    fixed, moving = image_of(a, weight), image_of(b)
    descriptors = [mind_descriptor(x, m, dilation=1) for x, m in ((a, weight), (b, None))]
    expected: dict[MetricName, Tensor] = {
        "mse": mse(a, b, weight),
        "ncc": ncc(a, b, weight),
        "nmi": nmi(a, b, weight),
        "mind": mse(*descriptors, weight),
        "lncc": lncc(
            a,
            b,
            weight,
            radius_mm=3.0,
            spacing_mm=1.5,
            variances=tuple(  # type: ignore[arg-type]
                METRICS["lncc"].statistic(x.image, x.mask, x.grid.spacing_mm)
                for x in (fixed, moving)
            ),
        ),
        "gradient": gradient(
            a,
            b,
            weight,
            spacing_mm=1.5,
            edges=tuple(  # type: ignore[arg-type]
                METRICS["gradient"].statistic(x.image, x.mask, x.grid.spacing_mm)
                for x in (fixed, moving)
            ),
        ),
    }
    assert expected.keys() == METRICS.keys()
    for name, metric in METRICS.items():
        one, other = metric.prepared(fixed), metric.prepared(moving)
        found = image_loss(one, other, other.image, weight, metric, 2.0)
        assert float(found) == pytest.approx(float(expected[name]), rel=1e-6), name


def test_a_crop_keeps_the_statistics_of_the_whole() -> None:
    whole = image_of(uniform(0, 1, 1, 1, 20, 20).float())
    for name in ("lncc", "gradient"):
        metric = METRICS[name]  # type: ignore[index]
        part = whole.cropped((5, 5), (9, 9), [metric.statistic])
        bare = whole.cropped((5, 5), (9, 9))
        assert part.statistic(metric.statistic) == whole.statistic(metric.statistic) > 0
        assert bare.statistic(metric.statistic) != whole.statistic(metric.statistic)


class SmoothedDifference(ImageMetric):
    """Mean absolute difference in small windows: a metric that this package does not have."""

    name = "smoothed"
    contrast = "same"
    loss_arrays = 40
    stage_settings = {"fast": {"deformable": {"factors": (4, 2), "iterations": (30, 30)}}}  # noqa: RUF012
    calls = 0

    def loss(
        self, fixed: Tensor, moved: Tensor, weight: Tensor | None, context: LossContext
    ) -> Tensor:
        type(self).calls += 1
        assert context.statistics[0] == pytest.approx(float(fixed.max()), abs=0.5)
        radii = self.window_radii(context.radius_vox, context.spacing_mm)
        gap = (box_sum(fixed - moved, radii) ** 2 + 1e-6).sqrt()
        return (gap if weight is None else gap * weight).mean()

    @staticmethod
    def statistic(image: Tensor, mask: Tensor | None, spacing_mm: Any) -> float:
        return float(image.max())

    def window_radii(self, radius_vox: float, spacing_mm: Any) -> list[int]:
        return [1] * len(spacing_mm)


@pytest.mark.parametrize("ndim", DIMS)
def test_a_new_metric_is_one_object_in_the_registry(
    ndim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All stages, settings, memory and the quality check use it."""
    monkeypatch.setitem(METRICS, "smoothed", SmoothedDifference())  # type: ignore[misc]
    grid = plain_grid(ndim, 32)
    known = known_pair(dense_truth(grid), grid, grid)
    options: dict[str, Any] = {"metric": "smoothed", "preset": "fast", "kind": "deformable"}
    found = stn3d.register(
        (known.fixed, grid), (known.moving, grid), **options, init="header", threads=1
    )
    assert SmoothedDifference.calls > 50
    assert known.error_mm(found.transform) < 0.5 * known.error_mm(Affine.identity(ndim))
    assert found.metrics["settings"]["deformable"]["metric"] == "smoothed"
    assert found.metrics["settings"]["deformable"]["factors"] == (4, 2)
    greedy, plain = (
        estimated_gb(grid, grid, settings_from(options | {"metric": name}))
        for name in ("smoothed", "mse")
    )
    assert greedy > plain
    with pytest.raises(stn3d.InputError, match="did you mean smoothed"):
        settings_from({"metric": "smooted"})
    assert torch.isfinite(known.pair.fixed.image).all()
