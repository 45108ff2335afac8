"""Networks: spatial transformers, cascades, coordinate regression, segmentation."""

from stn3d.nets.aligned_pyramid import AlignedPyramid
from stn3d.nets.cascade import Cascade, pair_transformer
from stn3d.nets.classifiers import PairClassifier, cnn, cnn_encoder, fcn, fcn_encoder, map_encoder
from stn3d.nets.coordinates import CoordinateRegressor
from stn3d.nets.heads import HEADS, HeadKind, ParameterHead, VelocityHead
from stn3d.nets.keypoints import SpatialSoftmax
from stn3d.nets.localisation import Localisation, PyramidLocalisation
from stn3d.nets.pyramid import PyramidCascade
from stn3d.nets.recurrent import (
    Recurrence,
    RecurrentKeypointLocalisation,
    RecurrentLocalisation,
    RecurrentTransformer,
    TimeDistributed,
)
from stn3d.nets.segmentation import SegmentationNetwork
from stn3d.nets.spatial_transformer import (
    CanonicalisingWrapper,
    ComposedTransformers,
    ParallelTransformers,
    SpatialTransformer,
    voxel_points,
    warp_tensor,
)
from stn3d.nets.weights import TrainedNetwork, load_weights, save_weights

__all__ = [
    "HEADS",
    "AlignedPyramid",
    "CanonicalisingWrapper",
    "Cascade",
    "ComposedTransformers",
    "CoordinateRegressor",
    "HeadKind",
    "Localisation",
    "PairClassifier",
    "ParallelTransformers",
    "ParameterHead",
    "PyramidCascade",
    "PyramidLocalisation",
    "Recurrence",
    "RecurrentKeypointLocalisation",
    "RecurrentLocalisation",
    "RecurrentTransformer",
    "SegmentationNetwork",
    "SpatialSoftmax",
    "SpatialTransformer",
    "TimeDistributed",
    "TrainedNetwork",
    "VelocityHead",
    "cnn",
    "cnn_encoder",
    "fcn",
    "fcn_encoder",
    "load_weights",
    "map_encoder",
    "pair_transformer",
    "save_weights",
    "voxel_points",
    "warp_tensor",
]
