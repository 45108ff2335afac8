"""Every name that an option accepts has a sentence; a wrong one is answered with the nearest."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from stn3d import choices
from stn3d.errors import InputError
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing.intensity import WINDOWS_HU

PAIRS = [
    (choices.Kind, choices.KINDS),
    (choices.LandmarkKind, choices.LANDMARK_KINDS),
    (choices.MetricName, choices.METRICS),
    (choices.MetricChoice, choices.METRIC_CHOICES),
    (choices.Preset, choices.PRESETS),
    (choices.InitialMethod, choices.INITIAL_METHODS),
    (choices.Estimator, choices.ESTIMATORS),
    (choices.Device, choices.DEVICES),
    (choices.ImageInterpolation, choices.IMAGE_INTERPOLATIONS),
    (choices.SeriesInterpolation, choices.SERIES_INTERPOLATIONS),
    (choices.EvaluationProtocol, choices.EVALUATION_PROTOCOLS),
]


@pytest.mark.parametrize(("names", "sentences"), PAIRS)
def test_every_name_has_a_sentence(names: Any, sentences: dict[str, str]) -> None:
    assert set(sentences) == set(get_args(names))
    assert all(text and not text.endswith(".") for text in sentences.values())


def test_names_are_those_of_what_they_name() -> None:
    assert set(get_args(choices.MetricName)) == set(METRICS)
    assert set(get_args(choices.WindowName)) == set(WINDOWS_HU)


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    choices.check_choice("kind", "rigid", choices.Kind)
    with pytest.raises(InputError, match=r"the kind 'Ridgid' is unknown; did you mean rigid\?"):
        choices.check_choice("kind", "Ridgid", choices.Kind)


def test_devices() -> None:
    for device in ("auto", "cpu", "cuda", "cuda:0", "cuda:12"):
        choices.check_device(device)
    for device in ("gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", None):
        with pytest.raises(InputError, match="the device"):
            choices.check_device(device)
