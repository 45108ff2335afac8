"""Training with MONAI: what its engines, configured in configs/, need besides MONAI's own parts."""

from stn3d.nets.precision import bfloat16_is_fast
from stn3d.train.config import run_config
from stn3d.train.distributed import rank, start_processes, stop_processes, world_size
from stn3d.train.handlers import (
    Checkpoints,
    ClipGradients,
    EarlyStop,
    FollowAverage,
    PlainErrors,
    Seeds,
    iteration_reached,
    prepared_folder,
)
from stn3d.train.history import History, read_history
from stn3d.train.network import (
    Averaged,
    Stages,
    parameter_groups,
    warmup_cosine,
)
from stn3d.train.objective import (
    ChartFigures,
    Mean,
    Objective,
    PairFigures,
    chart_batch,
    lower_is_better,
    pair_batch,
)
from stn3d.train.outcome import WriteTransforms, world_transform, write_metrics
from stn3d.train.state import load_state, read_record, save_state
from stn3d.train.weights import ModelFile, start_from

__all__ = [
    "Averaged",
    "ChartFigures",
    "Checkpoints",
    "ClipGradients",
    "EarlyStop",
    "FollowAverage",
    "History",
    "Mean",
    "ModelFile",
    "Objective",
    "PairFigures",
    "PlainErrors",
    "Seeds",
    "Stages",
    "WriteTransforms",
    "bfloat16_is_fast",
    "chart_batch",
    "iteration_reached",
    "load_state",
    "lower_is_better",
    "pair_batch",
    "parameter_groups",
    "prepared_folder",
    "rank",
    "read_history",
    "read_record",
    "run_config",
    "save_state",
    "start_from",
    "start_processes",
    "stop_processes",
    "warmup_cosine",
    "world_size",
    "world_transform",
    "write_metrics",
]
