"""Training with MONAI: what its engines, configured in configs/, need besides MONAI's own parts."""

from stn3d.nets.precision import has_native_bfloat16
from stn3d.train.config import run_config
from stn3d.train.distributed import rank, init_process_group, destroy_process_group, world_size
from stn3d.train.handlers import (
    Checkpoints,
    ClipGradients,
    EarlyStopping,
    UpdateEMA,
    ReraiseInputErrors,
    SeedEachIteration,
    last_iteration,
    prepare_output_dir,
)
from stn3d.train.history import HistoryLogger, read_history
from stn3d.train.network import (
    ExponentialMovingAverage,
    DeepSupervision,
    parameter_groups,
    warmup_cosine,
)
from stn3d.train.loss import (
    CoordinateMetrics,
    MeanMetric,
    LossWithTerms,
    PairMetrics,
    prepare_coordinate_batch,
    lower_is_better,
    prepare_pair_batch,
)
from stn3d.train.outputs import SaveTransforms, world_transform, write_metrics
from stn3d.train.state import load_state, read_record, save_state
from stn3d.train.weights import SaveBestModel, load_pretrained

__all__ = [
    "ExponentialMovingAverage",
    "CoordinateMetrics",
    "Checkpoints",
    "ClipGradients",
    "EarlyStopping",
    "UpdateEMA",
    "HistoryLogger",
    "MeanMetric",
    "SaveBestModel",
    "LossWithTerms",
    "PairMetrics",
    "ReraiseInputErrors",
    "SeedEachIteration",
    "DeepSupervision",
    "SaveTransforms",
    "has_native_bfloat16",
    "prepare_coordinate_batch",
    "last_iteration",
    "load_state",
    "lower_is_better",
    "prepare_pair_batch",
    "parameter_groups",
    "prepare_output_dir",
    "rank",
    "read_history",
    "read_record",
    "run_config",
    "save_state",
    "load_pretrained",
    "init_process_group",
    "destroy_process_group",
    "warmup_cosine",
    "world_size",
    "world_transform",
    "write_metrics",
]
