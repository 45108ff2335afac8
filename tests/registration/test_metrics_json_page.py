"""docs/metrics-json.md lists exactly the keys that registrations and evaluations write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import stn3d
from stn3d.demo.heads import demo_pair
from stn3d.evaluation import EvaluationCase, EvaluationOptions, evaluate_case
from stn3d.grid import Grid
from stn3d.io import read_image, read_labels
from stn3d.registration.result import Registration
from tests.helpers.brain import as_t2, brain
from tests.helpers.heads import head_image
from tests.helpers.paths import ROOT
from tests.helpers.registration import sides
from tests.helpers.slices import SHAPE, acquired, interpolated, texture
from tests.helpers.synthetic import Known, dense_truth, known_pair, plain_grid

PAGE = ROOT / "docs" / "metrics-json.md"
STATISTICS = ("mean", "p95", "max")
TRE_STATISTICS = ("mean", "median", "p75", "p90", "p95", "max", "worst30")
# Keys that are data, such as label numbers, by the place where they stand.
PLACEHOLDERS = {
    "excluded_regions": "<image>",
    "timings_s": "<step>",
    "versions": "<package>",
    "labels": "<label>",
    "omitted_labels": "<label>",
    "tre_mm": "<statistic>",
    "inverse_consistency_error_mm": "<statistic>",
    "true_error_mm": "<statistic>",
    "centre_mm": "<axis>",
    "rotation_deg": "<axis>",
    "translation_mm": "<axis>",
    "scales": "<axis>",
    "shears": "<axes>",
}
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "list": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def documented() -> dict[str, str]:
    """The types on the page by the full path of their key; items of lists have the list's path."""
    types = {}
    for section in PAGE.read_text(encoding="utf8").split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        parents = (
            []
            if heading in ("Top level", "`stn3d evaluate` only")
            else (re.findall(r"`(\w+)`", heading))
        )
        for key, kind in re.findall(r"^\| `(.+?)` \| (.+?) \|", body, flags=re.MULTILINE):
            for parent in parents or [""]:
                types[f"{parent}.{key}".lstrip(".")] = kind
    return types


def written(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Paths and values of all keys, in the notation of the page."""
    items = value if isinstance(value, list) else [value]
    for item in items:
        if not isinstance(item, dict):
            continue
        for key, inner in item.items():
            name = PLACEHOLDERS.get(path.rpartition(".")[2], key)
            inner_path = f"{path}.{name}".lstrip(".")
            yield inner_path, inner
            yield from written(inner, inner_path)


def has_type(value: Any, kind: str) -> bool:
    """Whether a value has the type that the page gives, such as ``list of numbers or null``."""
    plain = kind.partition(",")[0]
    for name in plain.split(" or "):
        outer, _, inner = name.partition(" of ")
        if isinstance(value, TYPES[outer]) and (outer == "boolean" or not isinstance(value, bool)):
            return not inner or all(isinstance(v, TYPES[inner.rstrip("s")]) for v in value)
    return False


def guided() -> Registration:
    """With labels, landmarks, an excluded region and a given metric and kind."""
    grid = plain_grid(2, 24)
    known = known_pair(dense_truth(grid, 0.5), grid, grid)
    labels = [(with_small_label((image > 0.3).int()), where) for image, where in known.sources]
    points = torch.tensor([[0.0, 0], [3, 4]])
    given = sides(
        known.sources,
        labels=tuple(labels),
        landmarks=(points, points),
        exclude=(None, (square(known.moving), grid)),
    )
    options = {"metric": "lncc", "kind": "deformable", "preset": "fast", "uncertainty": True}
    return stn3d.register(*given, **options, threads=1)  # type: ignore[arg-type]


def with_small_label(labels: Tensor) -> Tensor:
    """The labels and another one of a single voxel, which is omitted."""
    labels[..., 0, 0] = 2
    return labels


def square(like: Tensor) -> Tensor:
    mask = torch.zeros_like(like)
    mask[..., 10:12, 10:12] = 1
    return mask


def automatic(first: Tensor, known: Known) -> Registration:
    """Metric and kind are selected."""
    fixed, moving = (first, known.fixed_grid), known.sources[1]
    return stn3d.register(fixed, moving, preset="fast", threads=1, estimator="optimiser")


def stripped_and_whole() -> Registration:
    """The region is selected too."""
    sources = head_image(plain_grid(2, 48), True), head_image(plain_grid(2, 50), False)
    return stn3d.register(*sources, preset="fast", threads=1, estimator="optimiser")


def repeated_slices() -> Registration:
    """The moving image repeats thick slices."""
    grid = Grid.of_spacing(SHAPE)
    fixed, moving = texture(), interpolated(acquired(texture(), 0, 3), 0, SHAPE[0], "lines")
    options = {"kind": "rigid", "metric": "ncc", "preset": "fast", "init": "header", "threads": 1}
    return stn3d.register((fixed, grid), (moving, grid), **options)  # type: ignore[arg-type]


def two_contrasts() -> Registration:
    """Kind and features are selected by the structures of two heads, in T2 and T1."""
    t1 = brain(2.5)
    moving = demo_pair("two", 2.5).moving
    return stn3d.register((as_t2(t1.values), t1.grid), moving, preset="fast")


def like_ct(image: Tensor) -> Tensor:
    """Air and soft tissue in HU."""
    noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(0))
    return torch.where(image > 0.2, 60 + 40 * image + noise, -1000 + noise)


def evaluations(case: EvaluationCase, known: Known) -> list[dict[str, Any]]:
    """The keys that `stn3d evaluate` alone writes, by both protocols."""
    strict = EvaluationOptions(tolerance_mm=1.0, names={1: "body"})
    l2r = EvaluationOptions("l2r", names={1: "body"})
    found = []
    for options, keys in (
        (strict, ("true_error_mm", "nsd", "nsd_tolerance_mm")),
        (l2r, ("hd95_vox", "sdlogj")),
    ):
        metrics = evaluate_case(case, known.truth, options=options).to_dict()
        own = {"nsd", "name", "hd95_vox"} & set(metrics["labels"]["1"])
        labels = {"1": {key: metrics["labels"]["1"][key] for key in own}}
        found.append({**{key: metrics[key] for key in keys}, "labels": labels})
    return found


@pytest.fixture(scope="module")
def values() -> list[tuple[str, Any]]:
    """All keys and values of several registrations and an evaluation."""
    grid: Grid = plain_grid(2, 32)
    known = known_pair(dense_truth(grid, 0.5), grid, grid)
    runs = [guided(), automatic(known.fixed, known), automatic(like_ct(known.fixed), known)]
    runs += [stripped_and_whole(), repeated_slices(), two_contrasts()]
    labels = [read_labels(((image > 0.3).int(), where)) for image, where in known.sources]
    case = EvaluationCase(
        *(read_image(source) for source in known.sources), *labels, true_transform=known.truth
    )
    everything = [run.metrics for run in runs] + evaluations(case, known)
    found = []
    for metrics in everything:
        found += list(written(json.loads(json.dumps(metrics, allow_nan=False))))
    return found


def test_the_page_lists_exactly_the_keys_that_are_written(values: list[tuple[str, Any]]) -> None:
    keys, page = {path for path, _ in values}, set(documented())
    assert sorted(keys - page) == []  # written, not on the page
    assert sorted(page - keys) == []  # on the page, not written


def test_the_values_have_the_types_on_the_page(values: list[tuple[str, Any]]) -> None:
    types = documented()
    assert len(types) > 100
    wrong = [(path, value, types[path]) for path, value in values if path in types]
    assert [one for one in wrong if not has_type(one[1], one[2])] == []


def test_statistics_are_those_on_the_page(values: list[tuple[str, Any]]) -> None:
    parents = {name for name, inner in PLACEHOLDERS.items() if inner == "<statistic>"}
    objects = [value for path, value in values if path.rpartition(".")[2] in parents]
    assert len(objects) >= 3
    for value in objects:
        known = TRE_STATISTICS if "worst30" in value else STATISTICS
        assert tuple(value) == known
