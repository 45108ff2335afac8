"""The command `evaluate`: metrics of a transform on a pair, or on many."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import typer

from stn3d.cli import evaluation_options as given
from stn3d.cli import evaluation_summary, options, screen, summary
from stn3d.cli.process import slow_imports
from stn3d.cli.screen import Screen
from stn3d.errors import InputError

if TYPE_CHECKING:  # these import torch
    from stn3d.evaluation import Evaluation, EvaluationOptions
    from stn3d.scoring import PairData, PairRow

_Two: TypeAlias = "tuple[Path | None, Path | None]"


def evaluate(
    fixed: given.Fixed = None,
    moving: given.Moving = None,
    transform: given.Transform = None,
    inverse: given.Inverse = None,
    true_transform: given.TrueTransform = None,
    fixed_mask: given.FixedMask = None,
    fixed_labels: options.FixedLabels = None,
    moving_labels: options.MovingLabels = None,
    moved_labels: given.MovedLabels = None,
    fixed_points: options.EvaluatedFixedPoints = None,
    moving_points: options.EvaluatedMovingPoints = None,
    fixed_volume: options.FixedVolume = None,
    moving_volume: options.MovingVolume = None,
    labels: given.Labels = None,
    label_table: given.LabelTable = None,
    min_voxels: given.MinVoxels = None,
    tolerance: given.Tolerance = None,
    protocol: given.Protocol = None,
    pairs: given.Pairs = None,
    seed: given.Seed = None,
    out: given.Out = None,
    csv: given.LabelCsv = None,
    as_json: given.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure how well a transform aligns a pair: labels, landmarks, images, folding.

    With --pairs, measure many pairs and compare methods.
    """
    images, label_maps = (fixed, moving), (fixed_labels, moving_labels, moved_labels)
    points, transforms = (fixed_points, moving_points), (transform, inverse, true_transform)
    files = [*images, fixed_mask, *label_maps, *points, *transforms]
    _require_pair_or_pairs(pairs, files, images, moved_labels)
    with screen.opened(_task(pairs, images, moved_labels), quiet, verbose) as shown:
        with slow_imports():
            from stn3d.evaluation import EvaluationOptions
            from stn3d.io import read_label_table
            from stn3d.scoring import chosen_labels, evaluate_data

        outputs = _Outputs.checked(shown, (out, csv), as_json, [*files, pairs, label_table])
        names = {} if label_table is None else read_label_table(label_table)
        wanted = None if labels is None else chosen_labels(labels, names)
        rules = EvaluationOptions(
            "l2r" if protocol == "l2r" else "strict", wanted, min_voxels, tolerance, names
        )
        if pairs is not None:
            _evaluate_pairs(pairs, rules, seed or 0, outputs)
            return
        volumes = fixed_volume, moving_volume
        data = _pair_data(images, volumes, fixed_mask, label_maps, points, transforms)
        found = evaluate_data(data, rules)
        metrics = found.to_dict()
        outputs.write(metrics, [({}, found)])
        if outputs.shows_table:
            summary.show_metrics(outputs.screen, value=metrics)
            evaluation_summary.show_labels(outputs.screen, metrics)
        outputs.done()


def _pair_data(
    images: _Two,
    volumes: tuple[int | None, int | None],
    mask: Path | None,
    label_maps: tuple[Path | None, Path | None, Path | None],
    points: _Two,
    transforms: tuple[str | None, str | None, str | None],
) -> PairData:
    """The files of one pair; in each tuple, those of the fixed image come first."""
    from stn3d.registration.inputs import RegistrationImage
    from stn3d.scoring import PairData

    fixed_labels, moving_labels, moved_labels = label_maps
    if moved_labels is not None:
        return PairData(
            transform=transforms[0],
            fixed_labels=fixed_labels,
            moved_labels=moved_labels,
            moving_labels=moving_labels,
        )
    (fixed, moving), (fixed_points, moving_points) = images, points
    assert fixed is not None
    assert moving is not None
    return PairData(
        RegistrationImage(
            fixed, mask=mask, labels=fixed_labels, landmarks=fixed_points, volume=volumes[0]
        ),
        RegistrationImage(moving, labels=moving_labels, landmarks=moving_points, volume=volumes[1]),
        *transforms,
    )


def _require_pair_or_pairs(
    pairs: Path | None,
    files: Sequence[object],
    images: _Two,
    moved_labels: Path | None,
) -> None:
    """Make sure that either one pair or a table of pairs is given."""
    if pairs is not None:
        if any(file is not None for file in files):
            raise InputError("--pairs and files of one pair are given; give one of the two.")
    elif moved_labels is None and None in images:
        missing = "--fixed" if images[0] is None else "--moving"
        raise InputError(
            f"{missing} is missing; give --fixed and --moving, or --fixed-labels and "
            "--moved-labels, or --pairs."
        )


def _task(pairs: Path | None, images: _Two, moved_labels: Path | None) -> str:
    """What the command does, for its first line."""
    if pairs is not None:
        return f"evaluating the pairs of {pairs.name}"
    if moved_labels is not None:
        return f"evaluating the labels {moved_labels.name}"
    fixed, moving = images
    return f"evaluating {moving and moving.name} against {fixed and fixed.name}"


@dataclass(frozen=True)
class _Outputs:
    """Where the metrics go.

    Args:
        screen: the screen; results on stderr if stdout receives a file.
        json_file: JSON file, if any.
        csv_file: CSV file of the labels, if any.
        as_json: print JSON instead of tables.
    """

    screen: Screen
    json_file: Path | None
    csv_file: Path | None
    as_json: bool

    @classmethod
    def checked(
        cls,
        shown: Screen,
        files: _Two,
        as_json: bool,
        inputs: Sequence[object],
    ) -> _Outputs:
        """The outputs, checked to be writable and no inputs.

        Raises:
            InputError: they are not, or one file or stdout would receive several.
        """
        from stn3d.io import check_output, is_stdout

        written = [check_output(file) for file in files if file is not None]
        if len(written) == 2 and written[0].absolute() == written[1].absolute():
            raise InputError("--out and --csv are the same file; give two.")
        beside = any(is_stdout(file) for file in written)
        found = cls(shown.beside(True) if beside else shown, *files, as_json and not beside)
        found.refuse(inputs)
        return found

    @property
    def files(self) -> list[Path]:
        """The files to write."""
        return [file for file in (self.json_file, self.csv_file) if file is not None]

    def refuse(self, inputs: Sequence[object]) -> None:
        """Make sure that no output is one of these inputs.

        Raises:
            InputError: one is.
        """
        from stn3d.io import refuse_inputs

        refuse_inputs(self.files, inputs)

    @property
    def shows_table(self) -> bool:
        """Whether results are printed as tables."""
        return not self.as_json

    def write(
        self,
        metrics: dict[str, Any],
        evaluations: Sequence[tuple[Mapping[str, str], Evaluation]],
    ) -> None:
        """Write the files, and print the JSON if asked to."""
        from stn3d.io import atomic_write
        from stn3d.scoring import label_table_csv

        text = json.dumps(metrics, indent=2)
        for file, content in (
            (self.json_file, lambda: text + "\n"),
            (self.csv_file, lambda: label_table_csv(evaluations)),
        ):
            if file is not None:
                with atomic_write(file) as part:
                    part.write_text(content(), encoding="utf8")
        if self.as_json:
            typer.echo(text)

    def done(self) -> None:
        """Say which files were written."""
        if self.shows_table:
            self.screen.wrote(self.files)


def _evaluate_pairs(path: Path, rules: EvaluationOptions, seed: int, outputs: _Outputs) -> None:
    """Evaluate a table of pairs, and show means by method and comparisons."""
    from stn3d.scoring import BootstrapSettings, evaluate_pairs, pairs_json, read_pairs

    settings, rows = BootstrapSettings(seed), read_pairs(path)
    outputs.refuse([list(row.files.values()) for row in rows])

    def progress(number: int, row: PairRow) -> None:
        method = f" ({row.method})" if row.method else ""
        outputs.screen.doing(f"{number + 1} of {len(rows)}: {row.pair}{method}")

    results = list(evaluate_pairs(rows, rules, progress))
    metrics = pairs_json(results, settings)
    columns = [{"pair": one.row.pair, "method": one.row.method} for one in results]
    outputs.write(metrics, list(zip(columns, [one.evaluation for one in results], strict=True)))
    if outputs.shows_table:
        evaluation_summary.show_pairs(outputs.screen, metrics)
    outputs.done()
