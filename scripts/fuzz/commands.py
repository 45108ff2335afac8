"""Random command lines: a valid one of each command, with some arguments changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import typer

from scripts.fuzz.geometry_samples import GEOMETRY
from scripts.fuzz.made_inputs import MadeInputs
from scripts.fuzz.mutations import damage_text, damaged
from scripts.fuzz.samples import Sample
from stn3d import choices
from stn3d.cli.app import app

_NUMBERS = (
    "0", "1", "2", "-1", "3", "0.5", "-0.0", "1e300", "-1e300", "1e-320", "nan", "inf", "-inf",
    "1180591620717411303424", str(2**63), str(2**31), "9" * 400, "", "x", "1,2", "0x10", "1_0", "٣",
)  # fmt: skip
_TEXTS = (
    "", "-", "--", "none", "head", "brain", "1,2", "nan,inf", "-1e300,1e300", "1e300,1e300", "5,",
    "2,1", "0,1e-320", "\x00", "a" * 5000, "\udc80", "auto", "[bold]", "%s", "{0}", "--help", "-q",
    *choices.KINDS, *choices.METRIC_CHOICES, *choices.PRESETS, *choices.INITIAL_METHODS,
    *choices.ESTIMATORS, *choices.IMAGE_INTERPOLATIONS, *choices.DEVICES,
)  # fmt: skip
_OVERRIDES = (
    "epochs=0", "epochs=-1", "epochs=nan", "epochs=1e300", "epochs=", "=", "a=b", "shape=[8]",
    "shape=[-8,8]", "shape=8", "batch_size=0", "learning_rate=nan", "spatial_dims=7", "seed=-1",
    "device=tpu", "network_def=3", "epoch_length=0", "spacing_mm=0", "dataset_dir=/nowhere",
    "pretrained=/nowhere", "warmup=x", "val_samples=-1", "resume=maybe", "epochs=2001-12-14",
    "epochs=[[[", "network_def.channels=x", "x" * 5000 + "=1",
)  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """Valid files of each kind in a folder, by kind."""

    folder: Path
    by_kind: dict[str, list[Path]]

    @cached_property
    def made(self) -> MadeInputs:
        """Inputs that take time to make."""
        return MadeInputs(self.folder / "made")

    def one(self, kind: str, random: Random) -> str:
        """A valid file of a kind."""
        return str(random.choice(self.by_kind[kind]))


_KINDS = {"h5": "transform", "tfm": "transform", "csv": "points", "fcsv": "points",
          "mrk.json": "points", "tsv": "points", "yaml": "config",
          **dict.fromkeys(GEOMETRY, "geometry")}  # fmt: skip


def write_inputs(folder: Path, samples: list[Sample]) -> Inputs:
    """Write all samples, each into a folder of its own."""
    by_kind: dict[str, list[Path]] = {}
    for n, sample in enumerate(samples):
        path = sample.write(folder / f"valid{n}")
        named = {"series": "series", "labels": "labels", "slice": "slice"}.get(
            path.name.split(".")[0]
        )
        is_flat = sample.format in ("png", "tif", "jpg") or "2" in path.stem
        kind = _KINDS.get(sample.format) or named or "image"
        by_kind.setdefault("plane" if is_flat else kind, []).append(path)
    return Inputs(folder, by_kind)


def command_line(
    command: str, inputs: Inputs, samples: list[Sample], out: Path, random: Random
) -> list[str]:
    """Arguments of a command, most of them with one to three changes.

    Args:
        command: name of the command.
        inputs: valid files.
        samples: samples that are damaged.
        out: folder for what is written, damaged inputs included.
        random: source of the choices.
    """
    words = _VALID[command](inputs, out, random)
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        change = random.choice((_add_option, _add_option, _replace, _replace, _remove))
        words = change(words, command, inputs, samples, out, random)
    return [command, *words, *_LAST.get(command, ())]


# -- valid commands -------------------------------------------------------------------------------


def _register(inputs: Inputs, out: Path, random: Random) -> list[str]:
    images = [inputs.one("image", random) for _ in range(2)]
    kind = random.choice(("rigid", "affine", "deformable"))
    return [*images, "--out", str(out / "results"), "--preset", "fast", "--kind", kind]


def _series(inputs: Inputs, out: Path, random: Random) -> list[str]:
    return [inputs.one("series", random), "--out", str(out / "results")]


def _landmarks(inputs: Inputs, out: Path, random: Random) -> list[str]:
    points, kind = inputs.one("points", random), random.choice(("rigid", "tps"))
    return [points, points, "--out", str(out / "results"), "--kind", kind,
            "--like", inputs.one("image", random)]  # fmt: skip


def _apply(inputs: Inputs, out: Path, random: Random) -> list[str]:
    return [inputs.one("transform", random), inputs.one(random.choice(("image", "labels")), random),
            "--like", inputs.one("image", random), "--out", str(out / "moved.nii.gz")]  # fmt: skip


def _points(inputs: Inputs, out: Path, random: Random) -> list[str]:
    source = Path(inputs.one(random.choice(("points", "points", "geometry")), random))
    return [inputs.one("transform", random), str(source), "--out", str(out / source.name)]


def _evaluate(inputs: Inputs, out: Path, random: Random) -> list[str]:
    return ["--fixed", inputs.one("image", random), "--moving", inputs.one("image", random),
            "--out", str(out / "metrics.json")]  # fmt: skip


def _convert(inputs: Inputs, out: Path, random: Random) -> list[str]:
    name = random.choice(("a.h5", "a.tfm", "a.nii.gz", "a.mat", "a.lta"))
    return [inputs.one("transform", random), "--like", inputs.one("image", random),
            "--out", str(out / name)]  # fmt: skip


def _compose(inputs: Inputs, out: Path, random: Random) -> list[str]:
    transforms = [inputs.one("transform", random) for _ in range(random.choice((1, 2, 3)))]
    return [*transforms, "--out", str(out / "both.h5")]


def _invert(inputs: Inputs, out: Path, random: Random) -> list[str]:
    return [inputs.one("transform", random), "--out", str(out / "inverse.h5")]


def _jacobian(inputs: Inputs, out: Path, random: Random) -> list[str]:
    return [inputs.one("transform", random), "--like", inputs.one("image", random),
            "--out", str(out / "jacobian.nii.gz")]  # fmt: skip


def _explain(inputs: Inputs, out: Path, random: Random) -> list[str]:
    if random.random() < 0.3:
        return [inputs.made.folder_of_results(out, random)]
    return [inputs.one(random.choice(("transform", "image", "labels", "config")), random)]


def _check(inputs: Inputs, out: Path, random: Random) -> list[str]:
    return [inputs.one("image", random), inputs.one(random.choice(("image", "labels")), random)]


def _report(inputs: Inputs, out: Path, random: Random) -> list[str]:
    folders = [inputs.made.folder_of_results(out, random) for _ in range(random.choice((1, 1, 2)))]
    return [*folders, "--again"]


def _view(inputs: Inputs, out: Path, random: Random) -> list[str]:
    return [inputs.made.folder_of_results(out, random)]


def _cohort(inputs: Inputs, out: Path, random: Random) -> list[str]:
    """A table or an image of the first pair is damaged; that pair alone: no scheduler starts."""
    head = damaged(inputs.made.head, random).write(out / "head")
    pairs = [[inputs.one("image", random) for _ in range(2)] for _ in range(2)]
    pairs[0][0] = str(head) if random.random() < 0.5 else pairs[0][0]
    rows = [",".join(pair) for pair in pairs]
    table = "\n".join(("fixed,moving", *rows, "")).encode()
    path = out / "pairs.csv"
    path.write_bytes(damage_text(table, random) if random.random() < 0.5 else table)
    return [str(path), "--out", str(out / "results"), "--preset", "fast", "--kind", "rigid"]


def _template(inputs: Inputs, out: Path, random: Random) -> list[str]:
    images = [inputs.one("image", random) for _ in range(random.choice((2, 2, 3)))]
    return [*images, "--out", str(out / "results"), "--preset", "fast", "--iterations", "1"]


def _segment(inputs: Inputs, out: Path, random: Random) -> list[str]:
    sample = inputs.made.head
    head = (damaged(sample, random) if random.random() < 0.5 else sample).write(out / "head")
    return [str(head), "--out", str(out / "results"), "--weights", inputs.made.weights]


def _train(inputs: Inputs, out: Path, random: Random) -> list[str]:
    """Never a valid one, which would take seconds, and no damaged config, which would be code."""
    config = Path(__file__).resolve().parents[2] / "configs" / "train.yaml"
    return [str(config), f"output_dir={out / 'results'}", random.choice(_OVERRIDES), "epochs=0"]


_VALID: dict[str, Callable[[Inputs, Path, Random], list[str]]] = {
    "register": _register,
    "series": _series,
    "landmarks": _landmarks,
    "apply": _apply,
    "points": _points,
    "evaluate": _evaluate,
    "convert": _convert,
    "compose": _compose,
    "invert": _invert,
    "jacobian": _jacobian,
    "explain": _explain,
    "check": _check,
    "report": _report,
    "view": _view,
    "cohort": _cohort,
    "template": _template,
    "segment": _segment,
    "train": _train,
}
_LAST = {"cohort": ("--index", "0"), "template": ("--jobs", "1")}
"""Options that no change removes: they keep a command to this process."""
COMMANDS = tuple(_VALID)

# How the help names what an option takes.
_NUMERIC = ("N", "GB", "WEIGHT", "NUMBER", "MM", "STRENGTH")
_PATHS = ("IMAGE", "FILE", "METHOD|TRANSFORM", "FIXED", "TRANSFORM")

# -- changes --------------------------------------------------------------------------------------


def _options(command: str) -> list[Any]:
    """The options that a command declares."""
    root: Any = typer.main.get_command(app)
    return [one for one in root.commands[command].params if one.param_type_name == "option"]


def _add_option(
    words: list[str], command: str, inputs: Inputs, samples: list[Sample], out: Path, random: Random
) -> list[str]:
    if command == "train":
        return [*words, random.choice(_OVERRIDES)]
    option = random.choice(_options(command))
    name = random.choice(option.opts)
    if option.is_flag:
        return [*words, name]
    if "--out" in option.opts:
        return [*words, name, _output(out, random)]
    if option.metavar in _NUMERIC and random.random() < 0.9:
        return [*words, name, random.choice(_NUMBERS)]
    if option.metavar in _PATHS and random.random() < 0.9:
        return [*words, name, _path(inputs, samples, out, random)]
    return [*words, name, random.choice(_TEXTS)]


def _replace(
    words: list[str], command: str, inputs: Inputs, samples: list[Sample], out: Path, random: Random
) -> list[str]:
    places = [n for n, word in enumerate(words) if not word.startswith("--")]
    if command == "train" or not places:
        return words
    at = random.choice(places)
    is_out = at > 0 and words[at - 1] == "--out"
    value = _output(out, random) if is_out else _path(inputs, samples, out, random)
    return [*words[:at], value, *words[at + 1 :]]


def _remove(
    words: list[str], command: str, inputs: Inputs, samples: list[Sample], out: Path, random: Random
) -> list[str]:
    if not words:
        return words
    at = random.randrange(len(words))
    return words if command == "train" else words[:at] + words[at + 1 :]


def _output(out: Path, random: Random) -> str:
    """Where nothing of value can be written over."""
    names = ("moved.nii", "moved.mha", "moved.nrrd", "moved.png", "results", "", "no/such/folder/x",
             "a" * 300, "a" * 300 + ".nii.gz", "é" * 130 + ".nii.gz", "x" * 250 + ".csv",
             "/".join(["b" * 200] * 25), "\x00", "new\nline.csv", "p.csv/x", "\udc80.nii.gz",
             "moved.nii.gz")  # fmt: skip
    return str(out / random.choice(names)) if random.random() < 0.95 else ""


def _path(inputs: Inputs, samples: list[Sample], out: Path, random: Random) -> str:
    """A damaged file, a valid one of any kind, or no file at all."""
    how = random.random()
    if how < 0.4:
        own = out / f"damaged{random.randrange(10**6)}"
        usable = [one for one in samples if one.format != "bundle"]
        return str(damaged(random.choice(usable), random).write(own))
    if how < 0.8:
        return inputs.one(random.choice(list(inputs.by_kind)), random)
    names = ("missing.nii.gz", "", "a" * 300, "a" * 300 + ".csv", "x/" * 3000, "\x00", "\udc80.csv")
    return random.choice((str(out), "", str(out / random.choice(names)), random.choice(_TEXTS)))
