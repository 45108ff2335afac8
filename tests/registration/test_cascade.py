"""The stages of a cascade, the kind that it selects, and its plan."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stn3d.errors import InputError
from stn3d.nets.weights import TrainedNetwork
from stn3d.registration.automatic import Selection
from stn3d.registration.cascade import deformable_network, run_cascade, stages_of
from stn3d.registration.content import SharedContent
from stn3d.registration.runtime import Tracker
from stn3d.registration.settings import settings_from
from stn3d.registration.stages import ProgressEvent
from stn3d.registration.steps import expected_steps, initial_steps
from stn3d.transforms import Affine
from tests.helpers.heads import head_image, prepared_pair
from tests.helpers.synthetic import Anatomy, Known, known_pair, linear_truth, plain_grid

QUICK = {"linear": {"iterations": 5}, "deformable": {"factors": [4], "iterations": [2]}}


@pytest.fixture(scope="module")
def known() -> Known:
    zeros, shift = torch.zeros(2).double(), torch.tensor([2.0, -1]).double()
    return known_pair(linear_truth("rigid", zeros, shift, 5), plain_grid(2), plain_grid(2))


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"kind": "rigid"}, ["rigid"]),
        ({"kind": "similarity"}, ["rigid", "similarity"]),
        ({"kind": "affine"}, ["rigid", "affine"]),
        ({"kind": "deformable"}, ["rigid", "affine", "deformable"]),
        (
            {"kind": "deformable", "large_motion": "on"},
            ["rigid", "affine", "discrete", "deformable"],
        ),
        ({"kind": "auto", "estimator": "optimiser"}, ["rigid", "affine", "deformable"]),
        ({"kind": "affine", "estimator": "network"}, ["rigid", "affine"]),
    ],
)
def test_the_settings_choose_the_stages(
    known: Known, options: dict[str, str], names: list[str]
) -> None:
    settings = settings_from(options)
    stages = stages_of(known.pair, settings)
    assert [stage.name for stage in stages] == names
    ends = ["inverse", "metrics", "warp", "metrics", "quality_check"]
    steps = expected_steps(stages, known.pair)
    assert [step.name for step in steps] == [*names, *ends]
    assert [step.in_cascade for step in steps] == [True] * len(names) + [False] * len(ends)
    assert all(step.work > 0 for step in steps if step.in_cascade)
    assert (steps[len(names)].work > 0) == ("deformable" in names)  # a matrix is inverted at once
    assert initial_steps(settings, known.pair)[0].name == "initialise"


@pytest.mark.parametrize(
    ("estimator", "names"),
    [("network", ["network"]), ("both", ["network", "deformable"]), ("optimiser", ["deformable"])],
)
def test_the_estimator_chooses_the_deformable_stages(
    known: Known, estimator: str, names: list[str]
) -> None:
    network = TrainedNetwork(
        nn.Identity(),
        {"spatial_dims": 2, "in_channels": 1},
        {"spacing_mm": 1.0, "shape": [36, 36]},
        {},
    )
    settings = settings_from({"estimator": estimator})
    trained = deformable_network(settings, network)
    stages = stages_of(known.pair, settings, trained)
    assert [stage.name for stage in stages] == ["rigid", "affine", *names]
    assert deformable_network(settings_from({"estimator": estimator, "kind": "affine"})) is None
    if estimator != "optimiser":
        with pytest.raises(InputError, match=f"--estimator {estimator} needs a trained deformable"):
            deformable_network(settings)


def test_a_given_kind_needs_no_selection(known: Known) -> None:
    settings = settings_from({"kind": "rigid", "metric": "mse"}, QUICK)
    found = run_cascade(known.pair, settings, Affine.identity(2), refuse, Tracker())
    assert (found.settings, found.kind) == (settings, None)
    assert known.error_mm(found.transform) < known.error_mm(Affine.identity(2))


def refuse() -> Affine | None:
    raise AssertionError("no head is needed")


def test_heads_of_two_contrasts_are_registered_rigidly_from_the_start_again(
    known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[ProgressEvent] = []
    asked: list[tuple[object, ...]] = []

    def choose(*arguments: object) -> Selection:
        asked.append(arguments)
        return Selection("rigid", "of a test", {})

    monkeypatch.setattr("stn3d.registration.cascade.select_kind", choose)
    settings = settings_from({"metric": "nmi"}, QUICK)
    start, head = known.truth, Affine.identity(2)
    found = run_cascade(known.pair, settings, start, lambda: head, Tracker(seen.append))
    assert asked[0][0] == "nmi"
    assert asked[0][2] is head
    assert found.kind == Selection("rigid", "of a test", {})
    assert found.settings.kind == "rigid"
    begun = [(event.step, event.stage, event.stages) for event in seen if event.loss is None]
    assert begun == [("rigid", 1, 3), ("affine", 2, 3), ("rigid", 3, 3)]
    fractions = [event.fraction for event in seen]
    assert fractions == sorted(fractions)


def test_without_a_head_the_cascade_goes_on_to_a_deformation(known: Known) -> None:
    settings = settings_from({"metric": "nmi"}, QUICK)
    found = run_cascade(known.pair, settings, known.truth, lambda: None, Tracker())
    assert found.kind is not None
    assert found.settings.kind == found.kind.choice == "deformable"
    assert len(found.transform.parts) == 2


def test_a_deformation_that_structures_refuse_is_not_the_result(known: Known) -> None:
    refused = Selection("affine", "of a test", {})

    class Structures:
        subjects = None
        is_worse = staticmethod(lambda *_: False)
        masked = staticmethod(lambda pair: pair)
        without_deformation = staticmethod(lambda *_: refused)

    settings = settings_from({"metric": "lncc"}, QUICK)
    others = {"structures": Structures()}
    found = run_cascade(known.pair, settings, known.truth, lambda: None, Tracker(), **others)  # type: ignore[arg-type]
    assert (found.kind, found.settings.kind) == (refused, "affine")
    assert found.transform is found.linear.transform


@pytest.mark.parametrize(("metric", "repeated"), [("nmi", "rigid"), ("lncc", None)])
def test_a_shared_content_masks_the_image_that_goes_on(metric: str, repeated: str | None) -> None:
    pair = prepared_pair(head_image(plain_grid(2, 48), False), head_image(plain_grid(2, 50), True))
    settings = settings_from({"kind": "deformable", "metric": metric}, QUICK)
    content = SharedContent(pair, "moving", 1.0)
    start = Affine.identity(2)
    found = run_cascade(pair, settings, start, refuse, Tracker(), content)
    assert found.repeated_kind == repeated
    assert found.pair.moving.mask is None
    mask = found.pair.fixed.mask
    assert mask is not None
    inside = Anatomy(torch.zeros(2).double()).body(pair.fixed.grid.points_mm())
    assert bool((mask[0, 0][inside < 0.9] == 1).all())
    assert not bool(mask[0, 0][inside > 1.3].any())
