"""Segmentation of heads as a step of a MONAI pipeline."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey
from torch import Tensor

from stn3d.choices import check_device
from stn3d.errors import InputError, shown
from stn3d.integrations.monai.items import Target, image_of, target_of, with_meta
from stn3d.io import Image
from stn3d.io.nifti_geometry import header_for
from stn3d.nets.weights import TrainedNetwork
from stn3d.segmentation.api import segment


class SegmentHeadd(MapTransform):
    """Segment the head in images of a dictionary; see `stn3d.segment`.

    For each key, new items lie on the image's grid and have its affine and its trace of operations,
    so MONAI's ``Invertd`` takes them back with the image. The images stay as they are.

    Args:
        keys: images of one channel, ``(1, i, j, k)``, of any contrast.
        labels_suffix: end of the key of the label map, int16 with FreeSurfer's ids: ``image`` gives
            ``image_labels``. None leaves it out.
        mask_suffix: likewise of the brain mask, uint8.
        probabilities_suffix: likewise of the probabilities ``(33, i, j, k)``, float32, in the order
            of `stn3d.structures.STRUCTURES`.
        status_suffix: likewise of the quality status, ``good``, ``check`` or ``failed``.
        allow_missing_keys: omit keys that a dictionary lacks.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. Default: that of the image.
        network: a segmentation network of `stn3d.nets.load_weights`. Default: that of the package.

    Raises:
        InputError: an option is unknown, or the suffixes name no item, or two items alike.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        labels_suffix: str | None = "_labels",
        mask_suffix: str | None = "_mask",
        probabilities_suffix: str | None = None,
        status_suffix: str | None = None,
        allow_missing_keys: bool = False,
        device: str | None = None,
        network: TrainedNetwork | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if device is not None:
            check_device(device)
        self.labels_suffix, self.mask_suffix = labels_suffix, mask_suffix
        self.probabilities_suffix, self.status_suffix = probabilities_suffix, status_suffix
        wanted = [labels_suffix, mask_suffix, probabilities_suffix, status_suffix]
        given = [suffix for suffix in wanted if suffix is not None]
        if not given or "" in given or len(set(given)) < len(given):
            raise InputError(
                "the suffixes of SegmentHeadd name its new items; give at least one, all different "
                "and none of them empty."
            )
        self.device, self.network = device, network

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Segment the images.

        Args:
            data: the dictionary.

        Returns:
            A dictionary with the new items and all others.

        Raises:
            InputError: an item cannot be segmented.
            KeyError: an item is missing.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            d.update(self._items(key, image_of(d[key], shown(key))))
        return d

    def _items(self, key: Hashable, image: Tensor) -> dict[Hashable, Any]:
        """The new items of an image."""
        target = target_of(image, shown(key))
        device = self.device or ("cuda" if image.is_cuda else "cpu")
        found = segment(_single(image, target, key), device=device, network=self.network)
        values = {
            self.labels_suffix: lambda: found.labels.values,
            self.mask_suffix: lambda: found.mask.values.byte(),
            self.probabilities_suffix: lambda: found.probabilities().values,
        }
        items: dict[Hashable, Any] = {
            f"{key}{suffix}": with_meta(make()[0].to(image.device), target.meta, image)
            for suffix, make in values.items()
            if suffix is not None
        }
        if self.status_suffix is not None:
            items[f"{key}{self.status_suffix}"] = found.quality.status
        return items


def _single(image: Tensor, target: Target, key: Hashable) -> Image:
    """An image of one channel.

    Raises:
        InputError: it has several.
    """
    if image.shape[0] != 1:
        raise InputError(
            f"{shown(key)} has {image.shape[0]} channels, and SegmentHeadd takes images of one; "
            "select a channel, for example by SplitDimd."
        )
    meta = image.meta if isinstance(image, MetaTensor) else {}
    name = str(meta.get(ImageMetaKey.FILENAME_OR_OBJ) or f"the item {shown(key)}")
    values = image.detach().as_subclass(Tensor).cpu().to(torch.float32)[None]
    header = header_for(target.grid.world_from_index.numpy(), target.grid.shape)
    return Image(values, target.grid, name, header)
