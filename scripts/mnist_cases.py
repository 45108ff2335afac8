"""The rows of scripts/mnist.py: a task, a network of the package's parts, the paper's figure.

All networks of a table have about as many parameters as its CNN: the width of each one's classifier
is chosen so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor, nn

from stn3d.nets import (
    ComposedTransformers,
    Localisation,
    PairClassifier,
    ParallelTransformers,
    ParameterHead,
    PyramidLocalisation,
    Recurrence,
    RecurrentKeypointLocalisation,
    RecurrentLocalisation,
    RecurrentTransformer,
    SpatialSoftmax,
    SpatialTransformer,
    TimeDistributed,
    cnn,
    cnn_encoder,
    fcn,
    fcn_encoder,
    map_encoder,
)
from stn3d.nets.classifiers import convolutions
from stn3d.nets.heads import ParameterKind
from stn3d.synth.digits import Task

SHAPES: dict[Task, tuple[int, int, int]] = {
    "R": (1, 28, 28),
    "RTS": (1, 42, 42),
    "P": (1, 42, 42),
    "E": (1, 28, 28),
    "RTSE": (1, 42, 42),
    "TC": (1, 60, 60),
    "addition": (2, 42, 42),
    "same": (2, 42, 42),
    "sequence": (1, 100, 100),
}
CLASSES: dict[Task, int] = {"addition": 19, "same": 2}
POOLED: tuple[Task, ...] = ("RTS", "P", "RTSE", "TC", "addition", "same")  # after the transformer
KINDS: dict[str, ParameterKind] = {
    "affine": "affine",
    "projective": "projective",
    "tps": "thin_plate_spline",
}
FILTERS = 64  # of the CNNs that give each table its number of parameters


@dataclass(frozen=True, eq=False)
class Row:
    """One network on one task.

    Args:
        table: what it stands in.
        name: of the network, in the table.
        task: how digits are distorted.
        build: makes the network, identity at birth.
        paper_pct: the test error in the paper, if there is one.
    """

    table: str
    name: str
    task: Task
    build: Callable[[], nn.Module]
    paper_pct: float | None = None


def count(network: nn.Module) -> int:
    """The number of a network's parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def fitted(make: Callable[[int], nn.Module], target: int) -> nn.Module:
    """The network whose width gives it the number of parameters nearest to a target."""
    low, high = 1, 2
    with torch.device("meta"):  # shapes alone, no numbers
        while count(make(high)) < target:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if count(make(middle)) < target else (low, middle)
        width = min((low, high), key=lambda w: abs(count(make(w)) - target))
    return make(width)


# -- parts -----------------------------------------------------------------------------------------


def plain_cnn(task: Task) -> nn.Module:
    channels, *shape = SHAPES[task]
    return cnn(shape, channels, CLASSES.get(task, 10), (FILTERS, FILTERS))


def plain_fcn(task: Task) -> nn.Module:
    channels, *shape = SHAPES[task]
    classes = CLASSES.get(task, 10)
    return fitted(lambda w: fcn(shape, channels, classes, (w, w)), count(plain_cnn(task)))


def localiser(task: Task, kind: ParameterKind, dense: bool = False) -> SpatialTransformer:
    """A transformer whose localisation sees the image at half its size (paper, appendix A)."""
    channels, *shape = SHAPES[task]
    small = [-(-n // 2) for n in shape]
    if dense:
        encoder, features = fcn_encoder(small, channels, (32, 32, 32)), 32
    else:
        encoder, features = cnn_encoder(small, channels), 20
    head = ParameterHead(kind, 2, features, hidden=0, pool_size=0)
    return SpatialTransformer(Localisation(encoder, head), factor=2)


POINTS = 20  # that a localisation finds which points


def pointing(task: Task, crop_fraction: float = 1.0) -> SpatialTransformer:
    """A transformer whose localisation finds places, and a map that fits them."""
    encoder = nn.Sequential(
        map_encoder(SHAPES[task][0], POINTS, kernel_sizes=(5, 7)), SpatialSoftmax(POINTS, 2)
    )
    head = ParameterHead("affine", 2, 2 * POINTS, hidden=0, pool_size=0)
    return SpatialTransformer(Localisation(encoder, head), factor=2, crop_fraction=crop_fraction)


def behind(
    task: Task, front: nn.Module, in_channels: int | None = None, dense: bool = False
) -> nn.Module:
    """A transformer, the mean over 2x2 pixels where the task has it, and a classifier that fits."""
    channels, *shape = SHAPES[task]
    channels, classes = in_channels or channels, CLASSES.get(task, 10)
    pools = [nn.AvgPool2d(2)] if task in POOLED else []
    shape = [n // 2 for n in shape] if pools else shape
    left = count(plain_cnn(task)) - count(front)

    def classifier(width: int) -> nn.Module:
        if dense:
            return fcn(shape, channels, classes, (width, width))
        widths = (9, 7) if min(shape) > 24 else (7, 5)
        return cnn(shape, channels, classes, (width, width), widths)

    return nn.Sequential(front, *pools, fitted(classifier, left))


def st(task: Task, kind: str, dense: bool = False) -> nn.Module:
    """ST-FCN or ST-CNN."""
    return behind(task, localiser(task, KINDS[kind], dense), dense=dense)


# -- systems ---------------------------------------------------------------------------------------


def parallel(kind: str, dense: bool, number: int = 2) -> nn.Module:
    """Several transformers side by side: the classifier sees what each shows."""
    front = ParallelTransformers([localiser("addition", KINDS[kind], dense) for _ in range(number)])
    return behind("addition", front, number * SHAPES["addition"][0], dense)


def two_images(front: SpatialTransformer | ComposedTransformers) -> nn.Module:
    """One transform from both images, applied to both, and a classifier of both."""
    network = behind("same", front)
    transformer, *rest = network
    return PairClassifier(transformer, nn.Sequential(*rest))


def hierarchical() -> nn.Module:
    """Affine, then a few control points' velocity, then a dense one; the image is read once."""
    flow = PyramidLocalisation("velocity", 2, 1, channels=(8, 8, 16))
    region = PyramidLocalisation("regional", 2, 1, channels=(8, 8, 16), control_points=4)
    series = ComposedTransformers(
        [
            localiser("RTSE", "affine"),
            SpatialTransformer(region, 2),
            SpatialTransformer(flow, 2),
        ]
    )
    return behind("RTSE", series)


def inverse_compositional(steps: int) -> nn.Module:
    """One transformer, applied again and again to the image itself."""
    return behind("P", ComposedTransformers([localiser("P", "projective")], [steps]))


def twice(front: SpatialTransformer) -> ComposedTransformers:
    """A transformer that looks a second time, at what its first look showed, and mends it."""
    return ComposedTransformers([front], [2])


def in_depth(steps: int) -> nn.Module:
    """As many transformers of their own, each moving what the one before it gave."""
    return behind("P", nn.Sequential(*[localiser("P", "projective") for _ in range(steps)]))


SEQUENCE_TARGET = 200_000


def small_images() -> tuple[nn.Module, int]:
    """An encoder of 100x100 pixels seen at half their size, and the number of its features."""
    features = convolutions(1, (20, 20, 20), (5, 3, 3))
    return nn.Sequential(nn.AvgPool2d(2), features, nn.Flatten()), 20 * 4 * 4


class Three(nn.Module):
    """Answers of three digits at once, ``(B, 3, 10)``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        answer: Tensor = self.network(image)
        return answer.unflatten(1, (3, 10))


def sequence_cnn() -> nn.Module:
    """Convolutions over the whole canvas and one dense layer for all three digits."""

    def make(width: int) -> nn.Module:
        features = convolutions(1, (width, width, width), (5, 5, 5))
        sides = features(torch.zeros(1, 1, 100, 100)).shape[2:].numel()
        return nn.Sequential(features, nn.Flatten(), nn.Linear(width * sides, 30))

    return Three(fitted(make, SEQUENCE_TARGET))


def sequence_st() -> nn.Module:
    """One transformer finds the line of digits; a CNN reads all three."""
    encoder, features = small_images()
    head = ParameterHead("affine", 2, features, hidden=64, pool_size=0)
    front = SpatialTransformer(Localisation(encoder, head), shape=(50, 50))

    def make(width: int) -> nn.Module:
        layers = convolutions(1, (width, width), (7, 5))
        sides = layers(torch.zeros(1, 1, 50, 50)).shape[2:].numel()
        return nn.Sequential(layers, nn.Flatten(), nn.Linear(width * sides, 30))

    return Three(nn.Sequential(front, fitted(make, SEQUENCE_TARGET - count(front))))


def sequence_recurrent() -> nn.Module:
    """A recurrent transformer finds one digit after another; one CNN reads each."""
    encoder, features = small_images()
    return read_one_by_one(RecurrentLocalisation(encoder, features, Recurrence(3)))


def sequence_by_points() -> nn.Module:
    """The same with a recurrent transformer that points."""
    encoder = nn.Sequential(nn.AvgPool2d(2), map_encoder(1, POINTS, (20, 20, 20), (5, 5, 5)))
    return read_one_by_one(RecurrentKeypointLocalisation(encoder, POINTS, Recurrence(3)))


def read_one_by_one(
    localisation: RecurrentLocalisation | RecurrentKeypointLocalisation,
) -> nn.Module:
    """One CNN reads what each step shows."""
    front = RecurrentTransformer(localisation, (28, 28))
    left = SEQUENCE_TARGET - count(front)
    reader = fitted(lambda w: cnn((28, 28), 1, 10, (w, w), (7, 5)), left)
    return nn.Sequential(front, TimeDistributed(reader))


def of_features() -> nn.Module:
    """A CNN on R that turns the maps of its first layer, by their own features."""

    def make(width: int) -> nn.Module:
        first = convolutions(1, (width,), (9,))
        encoder = cnn_encoder((10, 10), width, (20, 20), (3, 3))
        front = SpatialTransformer(Localisation(encoder, ParameterHead("affine", 2, 20, 0, 0)))
        return nn.Sequential(first, front, cnn((10, 10), width, 10, (width,), (7,)))

    return fitted(make, count(plain_cnn("R")))


# -- the rows --------------------------------------------------------------------------------------

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


def _of_paper(task: Task, name: str) -> Row:
    family, _, kind = name.partition(" ")
    if family == "FCN":
        build: Callable[[], nn.Module] = lambda: plain_fcn(task)  # noqa: E731
    elif family == "CNN":
        build = lambda: plain_cnn(task)  # noqa: E731
    else:
        build = lambda: st(task, kind, dense=family == "ST-FCN")  # noqa: E731
    return Row(task, name, task, build, PAPER[task][name])


def _rows() -> dict[str, Row]:
    rows = [
        _of_paper(task, name) for task in get_args(Task) for name in PAPER.get(task, {})
    ] + [
        Row("TC", "ST-CNN affine twice", "TC",
            lambda: behind("TC", twice(localiser("TC", "affine")))),
        Row("TC", "ST-CNN affine by points", "TC", lambda: behind("TC", pointing("TC"))),
        Row("TC", "ST-CNN affine by points zoomed", "TC",
            lambda: behind("TC", pointing("TC", crop_fraction=0.6))),
        Row("TC", "ST-CNN affine by points twice", "TC",
            lambda: behind("TC", twice(pointing("TC")))),
        Row("addition", "FCN", "addition", lambda: plain_fcn("addition"), 47.7),
        Row("addition", "CNN", "addition", lambda: plain_cnn("addition"), 14.7),
        Row("addition", "2x ST-FCN tps", "addition", lambda: parallel("tps", dense=True), 5.8),
        Row("addition", "2x ST-CNN affine", "addition", lambda: parallel("affine", dense=False)),
        Row("sequence", "CNN", "sequence", sequence_cnn, 2.9),
        Row("sequence", "ST-CNN affine", "sequence", sequence_st, 2.0),
        Row("sequence", "recurrent ST-CNN affine", "sequence", sequence_recurrent, 1.5),
        Row("sequence", "recurrent ST-CNN affine by points", "sequence", sequence_by_points),
        Row("two images", "CNN", "same", lambda: plain_cnn("same")),
        Row("two images", "two-image ST-CNN affine", "same",
            lambda: two_images(localiser("same", "affine"))),
        Row("two images", "two-image ST-CNN affine twice", "same",
            lambda: two_images(twice(localiser("same", "affine")))),
        Row("two images", "two-image ST-CNN affine by points", "same",
            lambda: two_images(pointing("same"))),
        Row("cascade", "CNN", "RTSE", lambda: plain_cnn("RTSE")),
        Row("cascade", "ST-CNN affine", "RTSE", lambda: st("RTSE", "affine")),
        Row("cascade", "affine + regional + flow", "RTSE", hierarchical),
        Row("depth", "2 transformers in turn", "P", lambda: in_depth(2)),
        Row("depth", "inverse-compositional x2", "P", lambda: inverse_compositional(2)),
        Row("depth", "inverse-compositional x4", "P", lambda: inverse_compositional(4)),
        Row("features", "ST on feature maps", "R", of_features),
    ]  # fmt: skip
    return {f"{row.table}: {row.name}": row for row in rows}


ROWS: dict[str, Row] = _rows()


# Rows of one table that another one tells too.
BESIDE: dict[str, tuple[str, ...]] = {
    "depth": ("P: CNN", "P: ST-CNN projective"),
    "features": ("R: CNN", "R: ST-CNN affine"),
}


def parts(network: nn.Module) -> dict[str, Any]:
    """Parameters of all transformers of a network, and of all of it."""
    kinds = (SpatialTransformer, RecurrentTransformer)
    inside = [module for module in network.modules() if isinstance(module, kinds)]
    own = {id(p): p.numel() for m in inside for p in m.parameters()}
    return {"parameters": count(network), "localisation": sum(own.values())}
