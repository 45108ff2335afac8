"""Networks that find transforms: spatial transformers, cascades, charts; and their weights."""

from stn3d.nets.cascade import Cascade
from stn3d.nets.chart import ChartNetwork
from stn3d.nets.localisation import Localisation
from stn3d.nets.pyramid import PyramidCascade
from stn3d.nets.spatial_transformer import SpatialTransformer
from stn3d.nets.weights import Trained, load_weights, save_weights

__all__ = [
    "Cascade",
    "ChartNetwork",
    "Localisation",
    "PyramidCascade",
    "SpatialTransformer",
    "Trained",
    "load_weights",
    "save_weights",
]
