"""A call of every public callable that takes tensors, and the names of those that take none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stn3d import data, evaluation, io, losses, metrics, nets, synth, train, transforms, warp
from stn3d import landmarks as point_sets
from stn3d import sampler as sampling
from stn3d.grid import Grid
from stn3d.losses.coordinates import CoordinateLoss
from stn3d.losses.segmentation import SegmentationLoss
from stn3d.transforms import normalised
from tests.helpers.networks import randomised

SHAPE = (12, 10)
GRID = Grid(SHAPE, torch.tensor([[1.5, 0.2, 3.0], [-0.1, 2.0, -5.0], [0, 0, 1]]).double())
RIGID = transforms.Rigid(torch.tensor([0.1, 1.0, -2.0]), torch.tensor([5.0, 4.0]))
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Like:
    """How a case makes its arguments: images, label maps and masks; points, vectors, parameters."""

    image: Callable[[Tensor], Any]
    points: Callable[[Tensor], Any]


Case = Callable[[Like], Any]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


IMAGE = random(2, 1, *SHAPE)
PAIR = random(2, 2, *SHAPE, seed=1)
MASK = (random(2, 1, *SHAPE, seed=2) > 0.2).float()
LABELS = (3 * random(2, 1, *SHAPE, seed=3)).long()
FIELD = 2 * random(1, 2, *SHAPE, seed=4) - 1
FIELDS = FIELD.repeat(2, 1, 1, 1)
POINTS = 10 * random(6, 2, seed=5)
TARGETS = POINTS + random(6, 2, seed=6)
WEIGHTS = random(6, seed=7) + 0.5
CONTROLS = 3 * random(1, 2, 4, 4, seed=8)
CONTROL_GRID = transforms.control_grid(GRID, 4)
MATRIX = torch.tensor([[1.1, 0.1, 2.0], [-0.2, 0.9, 1.0], [0, 0, 1]])


def mapped(transform: transforms.Transform, like: Like) -> list[Any]:
    """Everything that a transform does with points."""
    points = like.points(POINTS)
    return [
        transform(points),
        transform.forward(points),
        transform.jacobian(points),
        transform.inverse()(points),
    ]


def linear(kind: type[transforms.Homography]) -> Case:
    parameters = kind.identity_parameters(2).float()
    parameters = parameters + 0.1 * random(len(parameters), seed=9) / (1 + parameters.abs())

    def case(like: Like) -> Any:
        made = kind(like.points(parameters), like.points(torch.tensor([3.0, 4.0])))
        return [*mapped(made, like), kind.identity(2, like.points(torch.ones(2)))]

    return case


def from_matrix(kind: Any) -> Case:
    centre = torch.tensor([3.0, 4.0])
    return lambda like: [
        linear(kind)(like),
        mapped(kind.from_matrix(like.points(MATRIX), like.points(centre)), like),
    ]


TRANSFORMS: dict[str, Case] = {
    "Affine": from_matrix(transforms.Affine),
    "Attention": linear(transforms.Attention),
    "BSpline": lambda like: mapped(transforms.BSpline(like.points(CONTROLS), CONTROL_GRID), like),
    "Chain": lambda like: mapped(
        transforms.Chain((transforms.DisplacementField(like.points(FIELD), GRID), RIGID)), like
    ),
    "DisplacementField": lambda like: mapped(
        transforms.DisplacementField(like.points(FIELD), GRID), like
    ),
    "Inverse": lambda like: mapped(
        transforms.Inverse(transforms.BSpline(like.points(CONTROLS), CONTROL_GRID)), like
    ),
    "PiecewiseAffine": lambda like: mapped(
        transforms.PiecewiseAffine(like.points(CONTROLS), CONTROL_GRID), like
    ),
    "Projective": from_matrix(transforms.Projective),
    "Rigid": from_matrix(transforms.Rigid),
    "Similarity": linear(transforms.Similarity),
    "ThinPlateSpline": lambda like: mapped(
        transforms.ThinPlateSpline(like.points(POINTS), like.points(TARGETS)), like
    ),
    "Translation": linear(transforms.Translation),
    "VelocityField": lambda like: mapped(transforms.VelocityField(like.points(FIELD), GRID), like),
    "covering": lambda like: (
        transforms.covering(
            transforms.DisplacementField(FIELD, GRID), like.points(POINTS)
        ).displacement_mm
    ),
    "compose": lambda like: transforms.compose(like.points(FIELD), like.points(FIELD), GRID),
    "rotation_matrix": lambda like: transforms.rotation_matrix(like.points(torch.tensor([0.3]))),
}

NORMALISED: dict[str, Case] = {
    "composed": lambda like: normalised.composed(like.points(MATRIX[:2]), like.points(MATRIX[:2])),
    "from_theta": lambda like: mapped(normalised.from_theta(like.points(MATRIX[:2]), GRID), like),
}

SAMPLER: dict[str, Case] = {
    "inside": lambda like: sampling.inside(like.points(POINTS), SHAPE),
    "sample": lambda like: [
        sampling.sample(like.image(IMAGE), like.points(POINTS[None]), how)
        for how in ("linear", "nearest", "cubic")
    ],
    "sample_displaced": lambda like: sampling.sample_displaced(
        like.image(IMAGE), like.points(FIELDS)
    ),
    "sample_spline": lambda like: sampling.sample_spline(
        like.image(IMAGE), like.points(POINTS[None])
    ),
}

WARP: dict[str, Case] = {
    "resample_image": lambda like: warp.resample_image(
        like.image(IMAGE[:1]), GRID, GRID.resampled(3.0)
    ),
    "warp_batch": lambda like: warp.warp_batch(like.image(IMAGE), GRID, RIGID, GRID),
    "warp_image": lambda like: warp.warp_image(like.image(IMAGE[:1]), GRID, RIGID, GRID),
    "warp_labels": lambda like: [
        warp.warp_labels(like.image(LABELS[:1]), GRID, RIGID, GRID, smooth) for smooth in (0, 1)
    ],
}


def of_images(loss: Callable[..., Any]) -> Case:
    """A loss of two images and a mask."""
    return lambda like: [
        loss(like.image(PAIR[:, :1]), like.image(PAIR[:, 1:])),
        loss(like.image(PAIR[:, :1]), like.image(PAIR[:, 1:]), like.image(MASK)),
    ]


def of_field(loss: Callable[..., Any]) -> Case:
    """A regularisation term and a mask."""
    return lambda like: [
        loss(like.points(FIELDS), GRID),
        loss(like.points(FIELDS), GRID, like.image(MASK)),
    ]


def registration_loss(like: Like) -> Any:
    batch = {
        "fixed": like.image(PAIR[:, :1]),
        "moving": like.image(PAIR[:, 1:]),
        "fixed_weight": like.image(MASK),
        "fixed_labels": like.image(LABELS),
        "moving_labels": like.image(LABELS),
        "displacement_vox": like.image(FIELDS),
        "truth_weight": like.image(MASK),
        "fixed_points": like.image(POINTS[None].repeat(2, 1, 1)),
        "moving_points": like.image(TARGETS[None].repeat(2, 1, 1)),
        "name": ["a", "b"],
    }
    loss = losses.RegistrationLoss(
        landmarks=1, lncc=1, nmi=1, mind_ssc=1, ncc=1, mse=1, bending=1, jacobian=1
    )
    return loss([like.image(FIELDS)], batch)


LOSSES: dict[str, Case] = {
    "RegistrationLoss": registration_loss,
    "bending": of_field(losses.bending),
    "common_labels": lambda like: losses.common_labels(like.image(LABELS), like.image(LABELS), 2),
    "dice": of_images(losses.dice),
    "diffusion": of_field(losses.diffusion),
    "gradient": of_images(losses.gradient),
    "identity_deviation": lambda like: losses.identity_deviation(
        RIGID, like.points(POINTS), like.image(WEIGHTS)
    ),
    "inverse_consistency": lambda like: losses.inverse_consistency(
        RIGID, RIGID, like.points(POINTS), like.image(WEIGHTS)
    ),
    "jacobian": of_field(losses.jacobian),
    "landmarks": lambda like: losses.landmarks(
        like.points(POINTS), like.points(TARGETS), like.image(WEIGHTS)
    ),
    "lncc": of_images(losses.lncc),
    "mind_descriptor": lambda like: losses.mind_descriptor(like.image(IMAGE), like.image(MASK)),
    "mind_ssc": of_images(losses.mind_ssc),
    "mse": of_images(losses.mse),
    "ncc": of_images(losses.ncc),
    "nmi": of_images(losses.nmi),
    "one_hot": lambda like: losses.one_hot(like.image(LABELS), (1, 2)),
    "truth_error": lambda like: losses.truth_error(
        like.points(FIELDS), like.points(2 * FIELDS), like.image(MASK)
    ),
}


def network(made: nn.Module, *arguments: Tensor, methods: tuple[str, ...] = ()) -> Case:
    """A network with random weights, and its other public methods."""
    randomised(made)

    def case(like: Like) -> Any:
        inputs = [like.image(argument) for argument in arguments]
        return [made(*inputs), *[getattr(made, method)(*inputs) for method in methods]]

    return case


def transformer() -> nets.SpatialTransformer:
    return nets.SpatialTransformer(nets.PyramidLocalisation("affine", 2, 1, (4, 6)))


def head(made: nn.Module) -> Case:
    randomised(made)
    features = random(2, 4, *SHAPE), random(2, 6, 6, 5)
    return lambda like: made([like.image(one) for one in features], GRID)


PYRAMID = nets.PyramidCascade(
    2, channels=(4, 6), hidden=(4, 6), radii=(0, 1), repeats=(1, 1), steps=(1, 0)
)
STAGES = [{"head": "affine", "spatial_dims": 2, "channels": (4, 6)}]
RECURRENT = nets.RecurrentLocalisation(nets.fcn_encoder(SHAPE, 1, (8,)), 8, nets.Recurrence(2))

NETS: dict[str, Case] = {
    "AlignedPyramid": network(nets.AlignedPyramid(2, 1, (4, 6), 4), IMAGE),
    "CanonicalisingWrapper": network(
        nets.CanonicalisingWrapper(transformer(), nn.Identity()), IMAGE
    ),
    "Cascade": network(nets.Cascade(STAGES), PAIR, methods=("transforms", "stages")),
    "ComposedTransformers": network(
        nets.ComposedTransformers([transformer()]), IMAGE, methods=("transform", "transforms")
    ),
    "CoordinateRegressor": network(
        nets.CoordinateRegressor(2, 1, (4, 6, 8)), IMAGE, methods=("stages",)
    ),
    "Localisation": network(
        nets.Localisation(
            nets.fcn_encoder(SHAPE, 1, (8,)), nets.ParameterHead("affine", 2, 8, pool_size=0)
        ),
        IMAGE,
    ),
    "PairClassifier": network(
        nets.PairClassifier(transformer(), nets.fcn(SHAPE, 2, 3, (4,)), "support"),
        PAIR,
        IMAGE,
        methods=("aligned",),
    ),
    "ParallelTransformers": network(nets.ParallelTransformers([transformer()] * 2), IMAGE, IMAGE),
    "ParameterHead": head(nets.ParameterHead("rigid", 2, 6)),
    "PyramidCascade": network(PYRAMID, PAIR, methods=("stages",)),
    "PyramidLocalisation": network(nets.PyramidLocalisation("velocity", 2, 1, (4, 6)), IMAGE),
    "RecurrentKeypointLocalisation": network(
        nets.RecurrentKeypointLocalisation(nets.map_encoder(1, 4), 4, nets.Recurrence(2)), IMAGE
    ),
    "RecurrentLocalisation": network(RECURRENT, IMAGE),
    "RecurrentTransformer": network(nets.RecurrentTransformer(RECURRENT), IMAGE),
    "SegmentationNetwork": network(
        nets.SegmentationNetwork(2, classes=3, channels=(4, 6), voxel_channels=4), IMAGE
    ),
    "SpatialSoftmax": network(
        nets.SpatialSoftmax(3, 2), random(2, 3, *SHAPE), random(2, 3, 2, seed=1)
    ),
    "SpatialTransformer": network(transformer(), IMAGE, methods=("transform",)),
    "TimeDistributed": network(nets.TimeDistributed(transformer()), random(2, 3, 1, *SHAPE)),
    "VelocityHead": head(nets.VelocityHead(2, (4, 6), None)),
    "cnn": network(nets.cnn(SHAPE, 1, 2, (2, 2), (3, 3)), IMAGE),
    "cnn_encoder": network(nets.cnn_encoder(SHAPE, 1, (2, 2), (3, 3)), IMAGE),
    "fcn": network(nets.fcn(SHAPE, 1, 2, (4,)), IMAGE),
    "fcn_encoder": network(nets.fcn_encoder(SHAPE, 1, (4,)), IMAGE),
    "map_encoder": network(nets.map_encoder(1, 4), IMAGE),
    "pair_transformer": network(nets.pair_transformer("rigid", 1, 2, 1, (4, 6)), IMAGE, PAIR),
    "voxel_points": lambda like: nets.voxel_points(like.image(IMAGE)),
    "warp_tensor": lambda like: nets.warp_tensor(like.image(IMAGE), RIGID),
}


def two_label_maps(like: Like) -> tuple[Any, Any]:
    return like.image(LABELS[:1]), like.image(LABELS[:1].flip(2))


METRICS: dict[str, Case] = {
    "Determinants": lambda like: metrics.Determinants.of(
        RIGID, GRID, like.image(MASK[:1])
    ).metrics(),
    "EvaluationRegion": lambda like: metrics.EvaluationRegion(
        "mask", like.image(MASK[0, 0] > 0)
    ).as_dict(),
    "dice": lambda like: metrics.dice(like.image(LABELS), like.image(LABELS.flip(2))),
    "eroded": lambda like: metrics.eroded(like.image(MASK[0, 0] > 0)),
    "foreground": lambda like: metrics.foreground(like.image(IMAGE)),
    "hd95_vox": lambda like: metrics.hd95_vox(*two_label_maps(like), GRID, [1]),
    "image_metrics": lambda like: metrics.image_metrics(
        like.image(PAIR[:1, :1]), like.image(PAIR[:1, 1:]), GRID, like.image(MASK[:1])
    ),
    "inverse_consistency_error_mm": lambda like: metrics.inverse_consistency_error_mm(
        RIGID, RIGID, like.points(POINTS)
    ),
    "jacobian_metrics": lambda like: metrics.jacobian_metrics(RIGID, GRID, like.image(MASK[:1])),
    "landmark_robustness": lambda like: {
        "share": metrics.landmark_robustness(RIGID, like.points(POINTS), like.points(TARGETS))
    },
    "ndv_metrics": lambda like: metrics.ndv_metrics(RIGID, GRID, like.image(MASK[:1])),
    "select_labels": lambda like: metrics.select_labels(*two_label_maps(like), min_voxels=9).labels,
    "surface_dice": lambda like: metrics.surface_dice(*two_label_maps(like), GRID, [1], 1.0),
    "surface_distances": lambda like: vars(
        metrics.surface_distances(*two_label_maps(like), GRID, [1])[1]
    ),
    "tre_mm": lambda like: metrics.tre_mm(RIGID, like.points(POINTS), like.points(TARGETS)),
    "true_error_mm": lambda like: metrics.true_error_mm(
        RIGID, RIGID.inverse(), GRID, like.image(MASK[:1])
    ),
}


def coordinate_batch(like: Like) -> dict[str, Any]:
    return {
        "image": like.image(IMAGE),
        "coordinates": like.image(FIELDS),
        "coordinates_weight": like.image(MASK),
    }


def pair_metrics(like: Like) -> Any:
    batch = {
        "fixed": like.image(IMAGE),
        "moving": like.image(IMAGE),
        "fixed_weight": like.image(MASK),
        "fixed_labels": like.image(LABELS),
        "moving_labels": like.image(LABELS),
    }
    loss = losses.RegistrationLoss(truth=0, lncc=1)
    output = train.PairMetrics(loss, 2.0)({"pred": (like.image(FIELDS),), "label": batch})
    return {name: output[name] for name in ("loss", "dice", "folding_pct")}


def coordinate_metrics(like: Like) -> Any:
    output = {"pred": (like.image(random(2, 3, 6, 5)),), "label": coordinate_batch(like)}
    output = train.CoordinateMetrics(CoordinateLoss())(output)
    return {name: output[name] for name in ("loss", "coordinate_error_mm", "tissue_dice")}


def segmentation_metrics(like: Like) -> Any:
    batch = {"classes": like.image(LABELS + 4)}
    output = {"pred": (like.image(random(2, 8, *SHAPE)),), "label": batch}
    output = train.SegmentationMetrics(SegmentationLoss())(output)
    return {name: output[name] for name in ("loss", "dice")}


def prepared(prepare: Callable[..., Any], like: Like) -> Any:
    batch = {"fixed": like.image(IMAGE), "moving": like.image(IMAGE), **coordinate_batch(like)}
    made = prepare(batch, CPU)
    return [made[0], made[1]["fixed"]]


TRAIN: dict[str, Case] = {
    "CoordinateMetrics": coordinate_metrics,
    "DeepSupervision": network(train.DeepSupervision(PYRAMID), PAIR),
    "LossWithTerms": lambda like: train.LossWithTerms(CoordinateLoss())(
        (like.image(random(2, 3, 6, 5)),), coordinate_batch(like)
    ),
    "PairMetrics": pair_metrics,
    "SegmentationMetrics": segmentation_metrics,
    "prepare_image_batch": lambda like: prepared(train.prepare_image_batch, like),
    "prepare_pair_batch": lambda like: prepared(train.prepare_pair_batch, like),
    "world_transform": lambda like: train.world_transform(
        like.points(FIELD[0]), like.points(GRID.world_from_index), like.points(MATRIX)
    ),
}


def evaluated(like: Like) -> Any:
    image = io.as_image((IMAGE[:1], GRID))
    case = evaluation.EvaluationCase(
        image, image, fixed_points_mm=like.points(POINTS), moving_points_mm=like.points(TARGETS)
    )
    return evaluation.evaluate_case(case, RIGID, moved=like.image(IMAGE[:1])).to_dict()


def landmark_registration(like: Like) -> Any:
    found = point_sets.register_landmarks(
        like.points(POINTS), like.points(TARGETS), "affine", like.points(WEIGHTS)
    )
    return [found.transform, found.leave_one_out_errors_mm]


OTHERS: dict[str, Case] = {
    "stn3d.data.collate": lambda like: data.collate([{"image": like.image(IMAGE)}])["image"],
    "stn3d.evaluation.EvaluationCase": evaluated,
    "stn3d.evaluation.evaluate_case": evaluated,
    "stn3d.evaluation.measure_labels": lambda like: (
        evaluation.measure_labels(
            *two_label_maps(like), None, GRID, evaluation.EvaluationOptions(labels=[1])
        )
        .labels[1]
        .to_dict()
    ),
    "stn3d.landmarks.register_landmarks": landmark_registration,
    "stn3d.synth.make_subject": lambda like: (
        synth.make_subject(like.image(LABELS[0, 0]), GRID).codes
    ),
}

CASES: dict[str, Case] = OTHERS | {
    f"{module}.{name}": case
    for module, cases in {
        "stn3d.transforms": TRANSFORMS,
        "stn3d.transforms.normalised": NORMALISED,
        "stn3d.sampler": SAMPLER,
        "stn3d.warp": WARP,
        "stn3d.losses": LOSSES,
        "stn3d.nets": NETS,
        "stn3d.metrics": METRICS,
        "stn3d.train": TRAIN,
    }.items()
    for name, case in cases.items()
}


def values_of(result: Any) -> list[Any]:
    """The numbers of a result, in order; transforms by what they do with points."""
    if isinstance(result, transforms.Transform):
        return [result(POINTS.double()[None])]
    if isinstance(result, dict):
        return [value for item in result.values() for value in values_of(item)]
    if isinstance(result, list | tuple):
        return [value for item in result for value in values_of(item)]
    return [torch.from_numpy(result) if isinstance(result, np.ndarray) else result]
