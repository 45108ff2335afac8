"""Help of the options: groups, defaults, a sentence on each value."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from typer.main import get_command

from stn3d import choices
from stn3d.cli import file_options, options
from stn3d.cli.app import app
from stn3d.cli.setting_options import SETTINGS
from stn3d.registration.settings import Settings

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]


def help_of(option: Any) -> str:
    return option.__metadata__[0].help


@pytest.mark.parametrize(
    ("option", "sentences", "default"),
    [
        (options.Kind, choices.KINDS, Settings.kind),
        (options.Metric, choices.METRIC_CHOICES, Settings.metric),
        (options.Preset, choices.PRESETS, Settings.preset),
        (options.Init, choices.INITIAL_METHODS, Settings.init),
        (options.Estimator, choices.ESTIMATORS, Settings.estimator),
        (options.Device, choices.DEVICES, Settings.device),
    ],
)
def test_the_help_has_every_value_and_the_default_of_the_settings(
    option: Any, sentences: dict[str, str], default: str
) -> None:
    text = help_of(option)
    assert f"Default: {default}." in text
    for name, sentence in sentences.items():
        assert f"[bold]{name}[/bold]: {sentence}." in text


def test_defaults_of_numbers_are_those_of_the_settings() -> None:
    assert f"Default: {Settings.label_weight:g}" in help_of(options.LabelWeight)
    assert f"Default: {Settings.landmark_weight:g}" in help_of(options.LandmarkWeight)
    assert f"Default: {Settings.seed}" in help_of(options.Seed)


@pytest.mark.parametrize("name", COMMANDS)
def test_descriptions_begin_with_what_an_option_is(name: str) -> None:
    for parameter in COMMANDS[name].params:
        text = parameter.help
        assert text, parameter.name
        first = text.split()[0]
        assert first[0].isupper() or first[0].isdigit(), text
        assert first not in ("Of", "How", "What", "Whether", "Which", "See", "For"), text
        assert re.search(r"[.)]$", text), text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_same_conventions(name: str) -> None:
    command = COMMANDS[name]
    names = {flag for parameter in command.params for flag in parameter.opts}
    assert {"--quiet", "-q", "--verbose", "-v"} <= names
    assert command.help
    assert command.epilog.startswith("Examples:\n$ stn3d " + name)


def test_register_and_cohort_have_an_option_for_each_setting() -> None:
    """Settings without one are few, and stand in configs/register.yaml."""
    known = {field.name for field in dataclasses.fields(Settings)}
    rare = {"deformable_metric", "affine_weights", "channel_weights", "linear"}
    rare |= {"discrete", "deformable"}
    assert SETTINGS.keys() - {"config"} == known - rare
    for name in ("register", "cohort"):
        given = {parameter.name: parameter for parameter in COMMANDS[name].params}
        assert given.keys() >= SETTINGS.keys()
        assert all(given[one].default is None for one in SETTINGS)
        assert not given.keys() & {"settings"}


def test_the_options_of_register_are_in_groups() -> None:
    panels = {parameter.rich_help_panel for parameter in COMMANDS["register"].params}
    assert panels == {
        None,
        options.INPUTS,
        options.METHOD,
        options.REGIONS,
        options.LABELS,
        file_options.FILES,
        options.COMPUTING,
    }
