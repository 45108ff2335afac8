"""Networks that find transforms: spatial transformers, cascades, charts; and their weights."""

from stn3d.nets.aligned_pyramid import AlignedPyramid
from stn3d.nets.cascade import Cascade, pair_transformer
from stn3d.nets.chart import ChartNetwork
from stn3d.nets.classifiers import TwoImages, cnn, cnn_encoder, fcn, fcn_encoder, map_encoder
from stn3d.nets.heads import HEADS, Head, ParameterHead, VelocityHead
from stn3d.nets.localisation import Localisation, PyramidLocalisation
from stn3d.nets.points import RecurrentPoints, SpatialSoftmax
from stn3d.nets.pyramid import PyramidCascade
from stn3d.nets.recurrent import EachStep, RecurrentLocalisation, RecurrentTransformer
from stn3d.nets.spatial_transformer import (
    Parallel,
    Returning,
    Series,
    SpatialTransformer,
    moved,
    voxels,
)
from stn3d.nets.weights import Trained, load_weights, save_weights

__all__ = [
    "HEADS",
    "AlignedPyramid",
    "Cascade",
    "ChartNetwork",
    "EachStep",
    "Head",
    "Localisation",
    "Parallel",
    "ParameterHead",
    "PyramidCascade",
    "PyramidLocalisation",
    "RecurrentLocalisation",
    "RecurrentPoints",
    "RecurrentTransformer",
    "Returning",
    "Series",
    "SpatialSoftmax",
    "SpatialTransformer",
    "Trained",
    "TwoImages",
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
    "voxels",
]
