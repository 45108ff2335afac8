"""Presets, config files, their precedence, and sentences for what does not fit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from stn3d.errors import InputError
from stn3d.losses.similarity import METRICS
from stn3d.registration.settings import PRESETS, Settings, settings_from
from stn3d.registration.stages import DeformableStage, LinearStage
from tests.helpers.paths import ROOT


def test_nothing_given_is_the_default_preset() -> None:
    settings = settings_from({})
    assert (settings.kind, settings.metric, settings.preset) == ("auto", "auto", "default")
    assert settings.is_deformable  # there may be a deformable stage
    assert settings.metric_name == settings.deformable.metric == "lncc"
    assert settings == settings_from({"kind": None, "preset": None}, {})
    assert settings.deformable.iterations == DeformableStage().iterations


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_what_it_says(preset: str) -> None:
    settings = settings_from({"preset": preset})
    for part in ("linear", "deformable"):
        for key, value in PRESETS[preset].get(part, {}).items():
            assert getattr(getattr(settings, part), key) == value
    assert len(settings.deformable.factors) == len(settings.deformable.iterations)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_metric_has_settings_of_its_own_that_a_config_may_change(preset: str) -> None:
    settings = settings_from({"preset": preset, "metric": "nmi"})
    for part in ("linear", "deformable"):
        own = METRICS["nmi"].stage_settings[preset][part]  # type: ignore[index]
        assert all(getattr(getattr(settings, part), key) == value for key, value in own.items())
    plain = settings_from({"preset": preset}).linear
    assert dataclasses.replace(settings.linear, restarts=plain.restarts) == plain
    assert len(settings.deformable.factors) <= len(settings.deformable.iterations)
    changed = settings_from({"preset": preset}, {"metric": "nmi", "deformable": {"margin_mm": 5.0}})
    assert changed.deformable == dataclasses.replace(settings.deformable, margin_mm=5.0)
    fewer = settings_from({"preset": preset}, {"metric": "nmi", "linear": {"restarts": 0}})
    assert fewer.linear == plain


def test_options_win_over_the_config_and_the_config_over_the_preset() -> None:
    config = {"preset": "fast", "kind": "rigid", "metric": "mse", "deformable": {"step_vox": 0.25}}
    settings = settings_from({"kind": "affine", "metric": None}, config)
    assert (settings.kind, settings.metric, settings.preset) == ("affine", "mse", "fast")
    assert settings.deformable.step_vox == 0.25
    assert settings.deformable.factors == PRESETS["fast"]["deformable"]["factors"]
    assert settings_from({"preset": "accurate"}, config).preset == "accurate"


def test_yaml_json_and_a_mapping_say_the_same(tmp_path: Path) -> None:
    config: dict[str, Any] = {"kind": "affine", "threads": 2, "deformable": {"factors": [4, 2]}}
    config["deformable"]["iterations"] = [7, 5]
    (tmp_path / "a.json").write_text(json.dumps(config), encoding="utf8")
    text = "kind: affine\nthreads: 2\ndeformable:\n  factors: [4, 2]\n  iterations: [7, 5]\n"
    (tmp_path / "a.yaml").write_text(text, encoding="utf8")
    expected = settings_from({}, config)
    assert expected.deformable.iterations == (7, 5)
    assert settings_from({}, tmp_path / "a.json") == expected
    assert settings_from({}, str(tmp_path / "a.yaml")) == expected


def test_an_empty_config_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n", encoding="utf8")
    assert settings_from({}, tmp_path / "empty.yaml") == Settings(
        deformable=settings_from({}).deformable
    )


def test_null_in_a_config_counts_as_not_given() -> None:
    config = {"init": None, "kind": None, "threads": None, "deformable": {"step_vox": None}}
    assert settings_from({}, config) == settings_from({})


@pytest.mark.parametrize(
    ("kind", "stages"),
    [
        ("rigid", ["rigid"]),
        ("similarity", ["rigid", "similarity"]),
        ("affine", ["rigid", "affine"]),
        ("deformable", ["rigid", "affine", "deformable"]),
        ("auto", ["rigid", "affine", "deformable"]),
    ],
)
def test_the_cascade_goes_as_far_as_the_kind(kind: str, stages: list[str]) -> None:
    settings = settings_from({"kind": kind, "metric": "ncc"})
    made = settings.stages()
    assert [stage.name for stage in made] == stages
    for stage in made:
        assert isinstance(stage, LinearStage | DeformableStage)
        assert stage.metric == "ncc"
    last = made[-1]
    expected = settings.deformable if settings.is_deformable else settings.linear
    levels = expected.factors if isinstance(expected, DeformableStage) else expected.final_factors
    assert isinstance(last, LinearStage | DeformableStage)
    assert last.factors == levels


@pytest.mark.parametrize("kind", ["rigid", "similarity", "affine"])
def test_looks_and_reach_are_for_the_answer_alone(kind: str) -> None:
    config = {"linear": {"restarts": 3, "finest_spacing_mm": 1.5}}
    *before, last = settings_from({"kind": kind}, config).stages()
    assert isinstance(last, LinearStage)
    assert (last.restarts, last.finest_spacing_mm) == (3, 1.5)
    dense = settings_from({"kind": "deformable"}, config).stages()[:-1]
    for stage in (*before, *dense):
        assert isinstance(stage, LinearStage)
        assert (stage.restarts, stage.finest_spacing_mm) == (0, float("inf"))


def test_the_deformable_stage_holds_its_metric() -> None:
    assert settings_from({"metric": "mse"}).deformable.metric == "mse"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"kin": "rigid"}, ["unknown setting kin", "did you mean kind?"]),
        ({"deformable": {"step": 1}}, ["unknown setting deformable.step", "deformable.step_vox?"]),
        ({"deformable": {"metric": "mse"}}, ["unknown setting deformable.metric"]),
        ({"linear": {"iteration": 1}}, ["linear.iterations?"]),
        ({1: 2}, ["unknown setting 1"]),
        ({"kind": "afine"}, ["'afine'", "did you mean affine?", "rigid, similarity"]),
        ({"metric": "LNCC"}, ["'LNCC'", "did you mean lncc?"]),
        ({"preset": "quick"}, ["preset 'quick'", "fast, default, accurate"]),
        ({"device": "gpu"}, ["device 'gpu'", "auto, cpu, cuda"]),
        ({"kind": ["rigid"]}, ["kind"]),
        ({"deformable": 3}, ["deformable", "keys of its own"]),
        ({"deformable": {"factors": "fine"}}, ["deformable.factors", "'fine'"]),
        ({"deformable": {"factors": []}}, ["deformable.factors"]),
        ({"deformable": {"factors": [2, -1]}}, ["deformable.factors"]),
        ({"deformable": {"factors": [2, True]}}, ["deformable.factors"]),
        ({"deformable": {"factors": [float("inf"), 1]}}, ["deformable.factors"]),
        ({"deformable": {"iterations": [10, 2.5]}}, ["deformable.iterations", "whole"]),
        ({"deformable": {"factors": [16, 8, 4, 2, 1]}}, ["5", "4", "deformable.iterations"]),
        ({"deformable": {"step_vox": "big"}}, ["deformable.step_vox", "'big'", "a number"]),
        ({"deformable": {"step_vox": -1}}, ["deformable.step_vox", "-1"]),
        ({"deformable": {"step_vox": float("nan")}}, ["deformable.step_vox"]),
        ({"deformable": {"margin_mm": float("inf")}}, ["deformable.margin_mm"]),
        ({"linear": {"iterations": 2.5}}, ["linear.iterations", "2.5", "whole number"]),
        ({"linear": {"iterations": 0}}, ["linear.iterations", "at least 1"]),
        ({"linear": {"iterations": True}}, ["linear.iterations", "True"]),
        ({"linear": {"restarts": -1}}, ["linear.restarts", "-1"]),
        ({"linear": {"finest_spacing_mm": "fine"}}, ["linear.finest_spacing_mm", "'fine'"]),
        ({"threads": 0}, ["threads", "at least 1"]),
        ({"threads": "two"}, ["threads", "'two'"]),
        ({"max_memory": -1}, ["max_memory", "-1", "a number"]),
        ({"max_memory": "6 GB"}, ["max_memory", "'6 GB'", "a number"]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"seed": "x"}, ["seed", "'x'"]),
    ],
)
def test_what_does_not_fit_is_named(config: dict[Any, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        settings_from({}, config)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_config_files_that_are_none(tmp_path: Path) -> None:
    broken, flat, binary = (tmp_path / name for name in ("broken.yaml", "flat.yaml", "b.yaml"))
    broken.write_text("kind: [rigid\n", encoding="utf8")
    flat.write_text("- rigid\n", encoding="utf8")
    binary.write_bytes(b"\xff\xfe\x00\x9f")
    for path, word in (
        (tmp_path / "none.yaml", "there is no config"),
        (broken, "cannot be read"),
        (flat, "holds no keys"),
        (binary, "is not a text file"),
        (tmp_path, "cannot read the config"),
    ):
        with pytest.raises(InputError, match=word) as caught:
            settings_from({}, path)
        assert str(path) in str(caught.value)


def test_whole_numbers_and_single_levels_fit_where_they_make_sense() -> None:
    settings = settings_from(
        {}, {"threads": 2.0, "deformable": {"factors": 2, "iterations": 5, "step_vox": 1}}
    )
    assert settings.threads == 2
    assert (settings.deformable.factors, settings.deformable.iterations) == ((2,), (5,))
    assert isinstance(settings.deformable.step_vox, float)


def test_the_example_config_lists_every_setting_with_its_default() -> None:
    path = ROOT / "configs" / "register.yaml"
    assert settings_from({}, path) == settings_from({})
    written, known = (
        yaml.safe_load(path.read_text(encoding="utf-8")),
        dataclasses.asdict(settings_from({})),
    )
    for name in ("metric", "in_units"):  # the metric's business
        del known["deformable"][name]
    assert written.keys() == known.keys()
    for part in ("linear", "deformable"):
        assert written[part].keys() == known[part].keys()


@pytest.mark.parametrize(
    ("metrics", "linear", "deformable"),
    [
        ("lncc", False, False),
        ("nmi", True, True),
        ("mind", True, True),
        ("ncc+gradient", False, True),
    ],
)
def test_metrics_that_need_many_voxels_have_levels_in_units(
    metrics: str, linear: bool, deformable: bool
) -> None:
    names = dict(zip(("metric", "deformable_metric"), metrics.split("+"), strict=False))
    *first, dense = settings_from(names).stages()
    assert [stage.in_units for stage in first] == [linear] * 2  # type: ignore[attr-defined]
    assert dense.in_units == deformable  # type: ignore[attr-defined]


def test_the_deformable_stage_may_use_another_metric() -> None:
    both = settings_from({"metric": "nmi", "deformable_metric": "gradient"})
    *linear, dense = both.stages()
    assert {stage.metric for stage in linear} == {"nmi"}  # type: ignore[attr-defined]
    assert dense == settings_from({"metric": "gradient"}).deformable
    assert both.linear == settings_from({"metric": "nmi"}).linear
    with pytest.raises(InputError, match="deformable_metric 'gradent' is unknown"):
        settings_from({"deformable_metric": "gradent"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: 2001-12-14", r"the kind datetime.date\(2001, 12, 14\) is unknown"),
        ("kind: 2001-99-99", "cannot be read as YAML or JSON: month must be in"),
        ("init: [mass]", r"the setting init is \['mass'\]; give a text"),
        ("affine_weights: {a: 1}", "the setting affine_weights is .*; give a text"),
        ("metric: [lncc]", r"the metric \['lncc'\] is unknown"),
        ("1: 2", "unknown setting 1; did you mean"),
        ("[" * 20_000, "cannot be read as YAML or JSON: it is nested too deeply"),
        ("max_memory: .nan", "the setting max_memory is nan; give a number"),
        ("threads: 1180591620717411303424", "the setting threads is 1180591620717411303424"),
        ("seed: 0x" + "f" * 5000, "the setting seed is a number of 20000 bits"),
        ("linear: 3", "the setting linear holds keys of its own"),
        ("linear: {factors: 1e300}", "the setting linear.factors is"),
        ("deformable: {iterations: [" + "1," * 5000 + "]}", "the setting deformable.iterations"),
        ("a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\n", "unknown setting a"),
        ("a" * 900 + ": 1", "unknown setting aaa"),
        ("a" * 100_000 + ": 1", "cannot be read as YAML or JSON"),
        ("kind: " + "a" * 100_000, "the kind 'aaa"),
        ("#" * (2**20 + 1), "is larger than 1 MB"),
        ("!!python/object/apply:os.system [true]", "cannot be read as YAML or JSON"),
    ],
)
def test_absurd_configs_are_one_short_sentence(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=message) as raised:
        settings_from({}, tmp_path / "a.yaml")
    assert len(str(raised.value)) < 600
