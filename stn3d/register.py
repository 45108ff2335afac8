"""Register a pair of images: images -> initial transform -> cascade -> transform -> figures."""

from __future__ import annotations

import dataclasses
import math
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.evaluate import Case, evaluate, read_case
from stn3d.grid import Grid
from stn3d.initialise import Candidate, InitialMethod, initial_candidates
from stn3d.intensity import scaled
from stn3d.io import Image, ImageSource, read_transform
from stn3d.losses.similarity import Similarity
from stn3d.memory import MemoryWarning, budget
from stn3d.optimise import Progress, Stage
from stn3d.pair import Pair, Scan
from stn3d.registration import Registration, versions
from stn3d.settings import (
    INITIAL_METHODS,
    Device,
    Kind,
    Localiser,
    Preset,
    Settings,
    settings_from,
)
from stn3d.transforms import Affine, Chain, DisplacementField, LinearKind, Transform, chain
from stn3d.warp import overlap, warp_image

# Loss of the best plain guess from which the network is asked too; 0: always.
_DOUBTFUL: dict[Similarity, float] = {"lncc": 0.3, "ncc": 0.3, "mse": 0.0, "nmi": 0.0}


def register(
    fixed: ImageSource,
    moving: ImageSource,
    *,
    kind: Kind | None = None,
    metric: Similarity | None = None,
    preset: Preset | None = None,
    init: InitialMethod | str | os.PathLike[str] | Transform | None = None,
    localiser: Localiser | None = None,
    fixed_mask: ImageSource | None = None,
    moving_mask: ImageSource | None = None,
    fixed_labels: ImageSource | None = None,
    moving_labels: ImageSource | None = None,
    fixed_volume: int | None = None,
    moving_volume: int | None = None,
    device: Device | None = None,
    threads: int | None = None,
    max_memory: float | None = None,
    seed: int | None = None,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Registration:
    """Find the transform that brings the moving image onto the fixed image.

    Args:
        fixed: the image that stays: a path, nibabel image, MetaTensor or (tensor, Grid).
        moving: the image that is moved; it need share neither shape, spacing nor orientation.
        kind: ``rigid``, ``similarity``, ``affine`` or ``deformable`` (the default).
        metric: ``lncc`` (the default), ``ncc``, ``mse``, or ``nmi`` for images of two contrasts.
        preset: ``fast``, ``default`` or ``accurate``.
        init: ``auto`` (the default), ``header``, ``centres``, ``mass``, ``moments``, a transform or
            the path of one.
        localiser: ``auto`` (the default), ``optimiser``, ``network`` or ``both``; see `Settings`.
        fixed_mask: voxels of the fixed image that count.
        moving_mask: voxels of the moving image that count.
        fixed_labels: with moving_labels: figures of their overlap (they do not steer anything).
        moving_labels: see fixed_labels.
        fixed_volume: which volume of a 4D fixed image.
        moving_volume: which volume of a 4D moving image.
        device: ``auto`` (the default), ``cpu`` or ``cuda``.
        threads: CPU threads.
        max_memory: GB that the process may take, by default 80 % of what is free; where it would
            take more, a coarser finest level is chosen and a `MemoryWarning` says so.
        seed: for whatever is drawn.
        config: a YAML file, or a mapping, of any of the settings in `stn3d.settings.Settings`.
        progress: called with stage, level's spacing in mm, iteration and loss.

    Returns:
        The registration.

    Raises:
        InputError: an image, mask, label map or setting is of no use, or the memory allowed is too
            little; the message says why.
    """
    options = {
        "kind": kind,
        "metric": metric,
        "preset": preset,
        "init": init if init is None or isinstance(init, str | os.PathLike) else "given",
        "localiser": localiser,
        "device": device,
        "threads": threads,
        "max_memory": max_memory,
        "seed": seed,
    }
    settings = settings_from(options, config)
    start = init if isinstance(init, Transform) else _initial_from(settings.init)
    clock = Clock()
    with clock("read"):
        case, moving_mask_image = read_case(
            fixed,
            moving,
            (fixed_mask, moving_mask),
            (fixed_labels, moving_labels),
            (fixed_volume, moving_volume),
        )
    with limited_threads(settings.threads):
        return _run(case, moving_mask_image, settings, start, clock, progress)


def _run(
    case: Case,
    moving_mask: Image | None,
    settings: Settings,
    start: Transform | None,
    clock: Clock,
    progress: Progress | None,
) -> Registration:
    history = _History(progress)
    device = _device(settings.device)
    memory = budget(case.fixed.grid, case.moving.grid, settings)
    settings = memory.settings
    if memory.note is not None:
        warnings.warn(memory.note, MemoryWarning, stacklevel=3)
    with clock("prepare"):
        pair = Pair(
            _scan(case.fixed, case.fixed_mask, device), _scan(case.moving, moving_mask, device)
        )
    with clock("initialise"):
        if start is None:
            candidates = _candidates(pair, settings)
        else:
            _require_dimension(start, case)
            share = overlap(case.moving.grid, start, case.fixed.grid)
            candidates = [Candidate("given", start, math.nan, share)]
        transform = candidates[0].transform
        _require_overlap(candidates[0], case)
    for stage in _stages(pair, settings):
        with clock(stage.name):
            transform = stage(pair, transform, history)
    del pair
    transform = _final(transform)
    with clock("inverse"):
        inverse, residual_mm = _inverted(transform)
    with clock("evaluate"):  # before there is a moved image to hold
        before = evaluate(case, Affine.identity(case.fixed.grid.ndim))
    with clock("warp"):
        moved = warp_image(case.moving.values, case.moving.grid, transform, case.fixed.grid)
    with clock("evaluate"):
        after = evaluate(case, transform, inverse, moved)
        after["inverse_residual_mm"] = residual_mm
    metrics = {
        "fixed": _about(case.fixed),
        "moving": _about(case.moving),
        "before": before,
        "after": after,
        "initial": [
            {"name": c.name, "loss": None if math.isnan(c.loss) else c.loss, "overlap": c.overlap}
            for c in candidates
        ],
        "stages": history.levels,
        "memory": {"estimated_gb": round(memory.estimated_gb, 2), "note": memory.note},
        "settings": dataclasses.asdict(settings),
        "seed": settings.seed,
        "seconds": clock.seconds,
        "versions": versions(),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }
    image = dataclasses.replace(case.fixed, values=moved, name=f"moved {case.moving.name}")
    return Registration(transform, inverse, image, case.fixed, metrics)


def _candidates(pair: Pair, settings: Settings) -> list[Candidate]:
    """Where to start, best first; ``auto`` asks the network where no plain guess is good."""
    method: InitialMethod = settings.init  # type: ignore[assignment]
    kind: LinearKind = "affine" if settings.kind == "deformable" else settings.kind
    metric, localiser = settings.metric, settings.localiser
    if method != "auto" or localiser in ("auto", "optimiser"):
        plain = initial_candidates(pair, method, metric, kind)
        if method != "auto" or localiser == "optimiser" or plain[0].loss < _DOUBTFUL[metric]:
            return plain
    guess = _network_guess(pair, settings, kind)
    if guess is not None and localiser != "auto":
        return initial_candidates(pair, None, metric, kind, [("network", guess)])
    others = [] if guess is None else [("network", guess)]
    return initial_candidates(pair, "auto", metric, kind, others)


def _network_guess(pair: Pair, settings: Settings, kind: LinearKind) -> Affine | None:
    """Where the network would start; None where it is not asked, or knows neither image.

    Raises:
        InputError: only the network may say, and it cannot.
    """
    if settings.localiser == "optimiser":
        return None
    from stn3d.nets.stages import NetworkStart
    from stn3d.nets.weights import load_weights, shipped

    trained = load_weights(settings.affine_weights or shipped("affine"))
    fits = trained.fits(pair)
    guess = NetworkStart(trained.on(pair.fixed.image.device))(pair, kind) if fits else None
    if guess is None and settings.localiser == "network":
        reason = "sees no head in one of the images" if fits else _unfit(trained.images, pair)
        raise InputError(f"the affine network {reason}; use --localiser auto, or another --init.")
    return guess


def _stages(pair: Pair, settings: Settings) -> list[Stage]:
    """The cascade: linear stages, then the optimiser's dense one, a network's, or both.

    Raises:
        InputError: the network is for other images.
    """
    stages = settings.stages()
    if settings.kind != "deformable" or settings.localiser in ("auto", "optimiser"):
        return stages
    from stn3d.nets.stages import NetworkStage
    from stn3d.nets.weights import load_weights, shipped

    trained = load_weights(settings.dense_weights or shipped("dense"))
    if not trained.fits(pair):
        reason = _unfit(trained.images, pair)
        raise InputError(f"the dense network {reason}; use --localiser optimiser.")
    *linear, dense = stages
    network = NetworkStage(trained.on(pair.fixed.image.device))
    return [*linear, network] if settings.localiser == "network" else [*linear, network, dense]


def _unfit(images: tuple[int, int], pair: Pair) -> str:
    """Why a network is not for a pair."""
    d, channels = pair.fixed.grid.ndim, pair.fixed.image.shape[1]
    return f"is for {images[0]}D images of {images[1]} channel(s), and these are {d}D of {channels}"


class Clock:
    """Seconds by step, in the order of the steps; those of one name add up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        seconds = self.seconds.get(step, 0.0) + time.perf_counter() - begin
        self.seconds[step] = round(seconds, 3)


class _History:
    """Passes progress on and keeps the first and last loss of every level."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.levels: list[dict[str, Any]] = []

    def __call__(self, stage: str, spacing_mm: float, iteration: int, loss: float) -> None:
        last = self.levels[-1] if self.levels else {}
        if (last.get("stage"), last.get("spacing_mm")) != (stage, spacing_mm):
            last = {"stage": stage, "spacing_mm": spacing_mm, "first_loss": loss}
            self.levels.append(last)
        last |= {"last_loss": loss, "evaluations": iteration + 1}
        if self.progress is not None:
            self.progress(stage, spacing_mm, iteration, loss)


def _scan(image: Image, mask: Image | None, device: torch.device) -> Scan:
    if mask is None:
        return Scan(scaled(image.values).to(device), image.grid)
    values = scaled(image.values, mask.values).to(device)
    return Scan(values, image.grid, mask.values.float().to(device))


def _initial_from(init: str) -> Transform | None:
    """None for a method's name, else the transform in the file."""
    if init in INITIAL_METHODS:
        return None
    if not Path(init).exists():
        methods = ", ".join(INITIAL_METHODS)
        raise InputError(f"--init {init} is neither a file nor one of {methods}.")
    return read_transform(init)


def _require_dimension(start: Transform, case: Case) -> None:
    if start.ndim != case.fixed.grid.ndim:
        raise InputError(
            f"the initial transform (--init) is {start.ndim}D and the images are "
            f"{case.fixed.grid.ndim}D; give one of their dimension."
        )


def _require_overlap(best: Candidate, case: Case) -> None:
    if best.overlap == 0:
        raise InputError(
            f"{case.fixed.name} and {case.moving.name} do not overlap under the initial transform "
            f"({best.name}); use --init auto, or mend the headers."
        )


def _device(name: Device) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "--device cuda is asked for and torch sees no CUDA device; use cpu or auto."
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


@contextmanager
def limited_threads(count: int | None) -> Iterator[None]:
    """So many CPU threads, for a while; None changes nothing."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _parts(transform: Transform) -> tuple[Transform, ...]:
    return transform.transforms if isinstance(transform, Chain) else (transform,)


def _final(transform: Transform) -> Transform:
    """The transform as it will be saved: on the CPU, fields rounded to a 256th of a voxel."""
    return chain(
        *[
            _rounded(part.displacement_mm.cpu(), part.grid)
            if isinstance(part, DisplacementField)
            else part
            for part in _parts(transform)
        ]
    )


def _rounded(displacement_mm: Tensor, grid: Grid) -> DisplacementField:
    """Fewer random bits, so that files shrink; the rounded field is the one that is used."""
    quantum = 2.0 ** math.floor(math.log2(min(grid.spacing_mm) / 256))
    return DisplacementField((displacement_mm / quantum).round_().mul_(quantum), grid)


def _inverted(transform: Transform) -> tuple[Transform, float]:
    """The inverse and the largest residual of its fields, in mm."""
    parts: list[Transform] = []
    residual_mm = 0.0
    for part in reversed(_parts(transform)):
        if isinstance(part, DisplacementField):
            field, left = part.invert()
            parts.append(_rounded(field.displacement_mm, field.grid))
            residual_mm = max(residual_mm, left)
        else:
            parts.append(part.inverse())
    return chain(*parts), residual_mm


def _about(image: Image) -> dict[str, Any]:
    spacing = [round(s, 6) for s in image.grid.spacing_mm]
    return {"name": image.name, "shape": list(image.grid.shape), "spacing_mm": spacing}
