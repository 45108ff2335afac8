"""Networks that find transforms: spatial transformers, cascades, charts; and their weights."""

from stn3d.nets.aligned_pyramid import AlignedPyramid
from stn3d.nets.cascade import Cascade, pair_transformer
from stn3d.nets.coordinates import CoordinateRegressor
from stn3d.nets.classifiers import PairClassifier, cnn, cnn_encoder, fcn, fcn_encoder, map_encoder
from stn3d.nets.heads import HEADS, Head, ParameterHead, VelocityHead
from stn3d.nets.localisation import Localisation, PyramidLocalisation
from stn3d.nets.keypoints import RecurrentKeypointLocalisation, SpatialSoftmax
from stn3d.nets.pyramid import PyramidCascade
from stn3d.nets.recurrent import TimeDistributed, RecurrentLocalisation, RecurrentTransformer
from stn3d.nets.spatial_transformer import (
    ParallelTransformers,
    CanonicalisingWrapper,
    ComposedTransformers,
    SpatialTransformer,
    moved,
    voxel_points,
)
from stn3d.nets.weights import TrainedNetwork, load_weights, save_weights

__all__ = [
    "HEADS",
    "AlignedPyramid",
    "Cascade",
    "CoordinateRegressor",
    "TimeDistributed",
    "Head",
    "Localisation",
    "ParallelTransformers",
    "ParameterHead",
    "PyramidCascade",
    "PyramidLocalisation",
    "RecurrentLocalisation",
    "RecurrentKeypointLocalisation",
    "RecurrentTransformer",
    "CanonicalisingWrapper",
    "Series",
    "SpatialSoftmax",
    "SpatialTransformer",
    "TrainedNetwork",
    "PairClassifier",
    "VelocityHead",
    "cnn",
    "cnn_encoder",
    "fcn",
    "fcn_encoder",
    "load_weights",
    "map_encoder",
    "moved",
    "pair_transformer",
    "save_weights",
    "voxel_points",
]
