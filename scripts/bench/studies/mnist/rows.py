"""The rows of the MNIST study: a network, a task and the error in the paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

from torch import nn

from scripts.bench.studies.mnist.networks import (
    behind,
    hierarchical,
    in_depth,
    inverse_compositional,
    of_features,
    parallel,
    plain_cnn,
    plain_fcn,
    pointing,
    sequence_by_points,
    sequence_cnn,
    sequence_recurrent,
    sequence_st,
    st,
    transformer,
    twice,
    two_images,
)
from stn3d.synth.digits import Task


@dataclass(frozen=True, eq=False)
class NetworkRow:
    """One network on one task.

    Args:
        table: name of its table.
        name: name of the network in the table.
        task: distortion of the digits.
        build: makes the network; its transforms are initialised to the identity.
        paper_pct: the test error in the paper, if there is one.
    """

    table: str
    name: str
    task: Task
    build: Callable[[], nn.Module]
    paper_pct: float | None = None


PAPER: dict[str, dict[str, float]] = {
    "R": {"FCN": 2.1, "CNN": 1.2, "ST-FCN affine": 1.2, "ST-FCN projective": 1.3,
          "ST-FCN tps": 1.1, "ST-CNN affine": 0.7, "ST-CNN projective": 0.8, "ST-CNN tps": 0.7},
    "RTS": {"FCN": 5.2, "CNN": 0.8, "ST-FCN affine": 0.8, "ST-FCN projective": 0.9,
            "ST-FCN tps": 0.8, "ST-CNN affine": 0.5, "ST-CNN projective": 0.6, "ST-CNN tps": 0.5},
    "P": {"FCN": 3.1, "CNN": 1.5, "ST-FCN affine": 1.4, "ST-FCN projective": 1.4,
          "ST-FCN tps": 1.4, "ST-CNN affine": 0.8, "ST-CNN projective": 0.8, "ST-CNN tps": 0.8},
    "E": {"FCN": 3.2, "CNN": 1.4, "ST-FCN affine": 2.7, "ST-FCN projective": 2.6,
          "ST-FCN tps": 2.4, "ST-CNN affine": 1.2, "ST-CNN projective": 1.3, "ST-CNN tps": 1.1},
    "TC": {"FCN": 13.2, "CNN": 3.5, "ST-FCN affine": 2.0, "ST-CNN affine": 1.7},
}  # fmt: skip


def _of_paper(task: Task, name: str) -> NetworkRow:
    family, _, kind = name.partition(" ")
    if family == "FCN":
        build: Callable[[], nn.Module] = lambda: plain_fcn(task)  # noqa: E731
    elif family == "CNN":
        build = lambda: plain_cnn(task)  # noqa: E731
    else:
        build = lambda: st(task, kind, dense=family == "ST-FCN")  # noqa: E731
    return NetworkRow(task, name, task, build, PAPER[task][name])


def _rows() -> dict[str, NetworkRow]:
    rows = [
        _of_paper(task, name) for task in get_args(Task) for name in PAPER.get(task, {})
    ] + [
        NetworkRow("TC", "ST-CNN affine twice", "TC",
            lambda: behind("TC", twice(transformer("TC", "affine")))),
        NetworkRow("TC", "ST-CNN affine by points", "TC", lambda: behind("TC", pointing("TC"))),
        NetworkRow("TC", "ST-CNN affine by points zoomed", "TC",
            lambda: behind("TC", pointing("TC", crop_fraction=0.6))),
        NetworkRow("TC", "ST-CNN affine by points twice", "TC",
            lambda: behind("TC", twice(pointing("TC")))),
        NetworkRow("addition", "FCN", "addition", lambda: plain_fcn("addition"), 47.7),
        NetworkRow("addition", "CNN", "addition", lambda: plain_cnn("addition"), 14.7),
        NetworkRow("addition", "2x ST-FCN tps", "addition",
            lambda: parallel("tps", dense=True), 5.8),
        NetworkRow("addition", "2x ST-CNN affine", "addition",
            lambda: parallel("affine", dense=False)),
        NetworkRow("sequence", "CNN", "sequence", sequence_cnn, 2.9),
        NetworkRow("sequence", "ST-CNN affine", "sequence", sequence_st, 2.0),
        NetworkRow("sequence", "recurrent ST-CNN affine", "sequence", sequence_recurrent, 1.5),
        NetworkRow("sequence", "recurrent ST-CNN affine by points", "sequence", sequence_by_points),
        NetworkRow("two images", "CNN", "same", lambda: plain_cnn("same")),
        NetworkRow("two images", "two-image ST-CNN affine", "same",
            lambda: two_images(transformer("same", "affine"))),
        NetworkRow("two images", "two-image ST-CNN affine twice", "same",
            lambda: two_images(twice(transformer("same", "affine")))),
        NetworkRow("two images", "two-image ST-CNN affine by points", "same",
            lambda: two_images(pointing("same"))),
        NetworkRow("cascade", "CNN", "RTSE", lambda: plain_cnn("RTSE")),
        NetworkRow("cascade", "ST-CNN affine", "RTSE", lambda: st("RTSE", "affine")),
        NetworkRow("cascade", "affine + regional + flow", "RTSE", hierarchical),
        NetworkRow("depth", "2 transformers in turn", "P", lambda: in_depth(2)),
        NetworkRow("depth", "inverse-compositional x2", "P", lambda: inverse_compositional(2)),
        NetworkRow("depth", "inverse-compositional x4", "P", lambda: inverse_compositional(4)),
        NetworkRow("features", "ST on feature maps", "R", of_features),
    ]  # fmt: skip
    return {f"{row.table}: {row.name}": row for row in rows}


ROWS: dict[str, NetworkRow] = _rows()


# Rows of one table that are repeated in another.
BESIDE: dict[str, tuple[str, ...]] = {
    "depth": ("P: CNN", "P: ST-CNN projective"),
    "features": ("R: CNN", "R: ST-CNN affine"),
}
