"""The channel of a colour image that is registered: luminance, or a stain of histology.

Stains by colour deconvolution (Ruifrok and Johnston 2001): optical densities add up, and each stain
contributes its own proportions of red, green and blue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn3d.choices import ColourChannel
from stn3d.io.colours import channels_of, full_scale, luminance, opacity

_OPTICAL_DENSITIES = np.array(
    [
        [0.65, 0.70, 0.29],  # haematoxylin
        [0.07, 0.99, 0.11],  # eosin
        [0.27, 0.57, 0.78],  # DAB
    ]
)
"""Red, green and blue optical density of each stain, as in the ImageJ plugin of the authors."""
_STAINS: tuple[ColourChannel, ...] = ("haematoxylin", "eosin", "dab")
# A bright background: this part of the border has about the same brightness, near the brightest.
_OF_BORDER, _ABOUT, _BRIGHT = 0.5, 0.05, 0.7


@dataclass(frozen=True)
class ColourSelection:
    """What is registered of a colour image.

    Args:
        channel: ``luminance`` or a stain.
        inverted: whether dark became bright, because the background is bright.
    """

    channel: ColourChannel
    inverted: bool = False

    @property
    def description(self) -> str:
        """In words, as the end of a sentence."""
        if self.channel != "luminance":
            return f"the {self.channel} stain (colour deconvolution)"
        inverted = ", inverted since its background is bright" if self.inverted else ""
        return f"the luminance (Rec. 709){inverted}"


def selected_channel(
    colours: NDArray[Any], channel: ColourChannel = "luminance"
) -> tuple[NDArray[np.float32], ColourSelection]:
    """The channel of a colour image that is registered; the background is 0.

    Args:
        colours: colours, see `stn3d.io.colours`.
        channel: ``luminance`` (inverted where the background is bright) or a stain.

    Returns:
        The values, ``colours.shape`` float32, and what they are. Transparent voxels are 0.
    """
    if channel != "luminance":
        return stain_density(colours, channel), ColourSelection(channel)
    values = luminance(colours)
    if not has_bright_background(colours):
        return values, ColourSelection(channel)
    alpha = opacity(colours)
    top = np.float32(full_scale(colours.dtype))
    inverted = (top if alpha is None else top * alpha) - values
    return inverted, ColourSelection(channel, inverted=True)


def stain_density(colours: NDArray[Any], stain: ColourChannel) -> NDArray[np.float32]:
    """Density of a stain, 0 upward: 1 has the optical density of a vector of length 1.

    Args:
        colours: colours, see `stn3d.io.colours`.
        stain: ``haematoxylin``, ``eosin`` or ``dab``.
    """
    vectors = _OPTICAL_DENSITIES / np.linalg.norm(_OPTICAL_DENSITIES, axis=1, keepdims=True)
    unmixing = np.linalg.inv(vectors)[:, _STAINS.index(stain)]
    top = full_scale(colours.dtype)
    table = -np.log10(np.arange(top + 1).clip(min=1) / top)  # of each value that a channel can have
    density = sum(
        (weight * table).astype(np.float32)[colours[name]]
        for weight, name in zip(unmixing, "RGB", strict=True)
    )
    density = np.maximum(density, np.float32(0))
    alpha = opacity(colours)
    return density if alpha is None else density * alpha


def has_bright_background(colours: NDArray[Any]) -> bool:
    """Whether most of the opaque border is about equally bright, as a slide around a section."""
    ends = [(axis, end) for axis in range(colours.ndim) for end in (0, -1)]
    border = np.concatenate([np.moveaxis(colours, axis, 0)[end].ravel() for axis, end in ends])
    grey = channels_of(border)[..., :3].astype(np.float32).mean(axis=-1)
    alpha = opacity(border)
    grey = grey if alpha is None else grey[alpha > 0.5]
    if not len(grey):
        return False
    brightest, middle = float(channels_of(colours)[..., :3].max()), float(np.median(grey))
    alike = float(np.mean(np.abs(grey - middle) < _ABOUT * brightest))
    return middle > _BRIGHT * brightest and alike > _OF_BORDER
