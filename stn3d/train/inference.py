"""Inference with a deformable network in a MONAI bundle: the registration of pairs of files.

The inferer is `stn3d.register`, so a bundle gives what ``stn3d register --estimator network`` does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stn3d.io.pair_tables import ROLES
from stn3d.nets.weights import TrainedNetwork
from stn3d.registration.api import register
from stn3d.registration.inputs import RegistrationImage
from stn3d.registration.result import Registration
from stn3d.train.output_folder import prepare_output_dir

Pair = Mapping[str, str]


def prepare_file_batch(
    batch: Mapping[str, Sequence[str]], *_: Any, **__: Any
) -> tuple[list[dict[str, str]], Mapping[str, Sequence[str]]]:
    """MONAI's ``prepare_batch`` for pairs of files: the pairs as input, the batch as target."""
    rows = zip(*batch.values(), strict=True)
    return [dict(zip(batch, row, strict=True)) for row in rows], batch


class RegistrationInferer:
    """A MONAI inferer that registers pairs of files as ``stn3d register --estimator network`` does.

    The initial transform, the linear stages, the grid that the network works on and the quality
    check are those of `stn3d.register`. A pair may have masks, and labels and landmarks, which are
    only evaluated unless the settings give them a weight.

    Args:
        trained: The network with its preprocessing.
        init: Initialisation method; the ``initial`` of a pair takes precedence.
        settings: Further settings, keys of ``configs/register.yaml``.
    """

    def __init__(
        self, trained: TrainedNetwork, init: str = "auto", settings: Mapping[str, Any] | None = None
    ) -> None:
        self.trained, self.init = trained, init
        self.settings = {"estimator": "network", "landmark_weight": 0.0, **(settings or {})}

    def __call__(
        self, inputs: Sequence[Pair], network: nn.Module, *_: Any, **__: Any
    ) -> list[Registration]:
        """The registrations of some pairs.

        Args:
            inputs: Pairs as `stn3d.data.read_pairs` returns them.
            network: The network to use, with the architecture of ``trained``.

        Raises:
            InputError: A file of a pair or a setting cannot be used.
        """
        return [self._registered(pair, network) for pair in inputs]

    @torch.enable_grad()
    def _registered(self, pair: Pair, network: nn.Module) -> Registration:
        """One pair; the linear stages follow gradients, which MONAI's evaluator switches off."""
        device = next(network.parameters()).device.type
        fixed, moving = (_image(pair, role) for role in ROLES)
        return register(
            fixed,
            moving,
            init=pair.get("initial", self.init),
            config={"device": device, **self.settings},
            network=replace(self.trained, network=network),
        )


def _image(pair: Pair, role: str) -> RegistrationImage:
    mask, labels, landmarks = (pair.get(f"{role}_{what}") for what in ("mask", "labels", "points"))
    return RegistrationImage(pair[role], mask=mask, labels=labels, landmarks=landmarks)


class SaveRegistrations:
    """Writes the registrations of an evaluator's output, each into a folder of its own.

    A folder ``MOVING_to_FIXED`` holds what ``stn3d register`` writes: the moved image, the
    transform, its inverse and metrics.json. See `stn3d.data.pair_names`.

    Args:
        folder: Output folder; it is created if it does not exist.
        pairs: All pairs that are read, which no file may replace.
    """

    def __init__(self, folder: str | os.PathLike[str], pairs: Sequence[Pair] = ()) -> None:
        self.folder = prepare_output_dir(Path(folder), writes=False, inputs=[list(pairs)])

    def __call__(self, output: Mapping[str, Any]) -> dict[str, Any]:
        for name, found in zip(output["label"]["name"], output["pred"], strict=True):
            found.save(self.folder / name)
        return dict(output)
