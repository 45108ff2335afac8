"""Training with MONAI: components of the configs in configs/ that MONAI does not provide."""

from stn3d.nets.precision import has_native_bfloat16
from stn3d.train.config import run_config
from stn3d.train.distributed import destroy_process_group, init_process_group, rank, world_size
from stn3d.train.ema import ExponentialMovingAverage
from stn3d.train.handlers import (
    Checkpoints,
    ClipGradients,
    EarlyStopping,
    ReraiseInputErrors,
    SeedEachIteration,
    UpdateEMA,
    last_iteration,
)
from stn3d.train.history import HistoryLogger, read_history
from stn3d.train.inference import RegistrationInferer, SaveRegistrations, prepare_file_batch
from stn3d.train.loss import LossWithTerms, prepare_image_batch, prepare_pair_batch
from stn3d.train.metrics import (
    CoordinateMetrics,
    MeanMetric,
    PairMetrics,
    SegmentationMetrics,
    lower_is_better,
)
from stn3d.train.network import DeepSupervision
from stn3d.train.optimisation import parameter_groups, warmup_constant, warmup_cosine
from stn3d.train.output_folder import prepare_output_dir
from stn3d.train.outputs import world_transform, write_metrics
from stn3d.train.state import load_state, read_record, save_state
from stn3d.train.weights import SaveBestModel, bundle_weights, load_pretrained

__all__ = [
    "Checkpoints",
    "ClipGradients",
    "CoordinateMetrics",
    "DeepSupervision",
    "EarlyStopping",
    "ExponentialMovingAverage",
    "HistoryLogger",
    "LossWithTerms",
    "MeanMetric",
    "PairMetrics",
    "RegistrationInferer",
    "ReraiseInputErrors",
    "SaveBestModel",
    "SaveRegistrations",
    "SeedEachIteration",
    "SegmentationMetrics",
    "UpdateEMA",
    "bundle_weights",
    "destroy_process_group",
    "has_native_bfloat16",
    "init_process_group",
    "last_iteration",
    "load_pretrained",
    "load_state",
    "lower_is_better",
    "parameter_groups",
    "prepare_file_batch",
    "prepare_image_batch",
    "prepare_output_dir",
    "prepare_pair_batch",
    "rank",
    "read_history",
    "read_record",
    "run_config",
    "save_state",
    "warmup_constant",
    "warmup_cosine",
    "world_size",
    "world_transform",
    "write_metrics",
]
