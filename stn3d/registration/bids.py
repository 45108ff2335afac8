"""Names of a registration's files after the Brain Imaging Data Structure (BIDS derivatives).

The names are those of fMRIPrep: ``from-T1w_to-MNI152NLin2009cAsym_mode-image_xfm.h5`` resamples
images from T1w to the template, so it maps points of the template to points of T1w. BIDS
specification 1.10, derivatives, spatial transforms are BIDS extension proposal 14.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from stn3d.io.files import without_suffixes

_ORDER = ("sub", "tpl", "cohort", "ses", "task", "acq", "ce", "rec", "dir", "run", "echo", "part")


@dataclass(frozen=True)
class BidsName:
    """Entities and suffix of a file name.

    Args:
        entities: ``sub``, ``ses``, ... with their labels, as in the name.
        suffix: the last part of the name, such as ``T1w``.
    """

    entities: dict[str, str]
    suffix: str

    @classmethod
    def of(cls, name: str) -> BidsName:
        """The parts of a file name; a name that is not BIDS is a suffix without entities."""
        *parts, suffix = without_suffixes(PurePath(name).name).split("_")
        pairs = [part.partition("-") for part in parts]
        if not all(dash and key and label for key, dash, label in pairs):
            return cls({}, _label(without_suffixes(PurePath(name).name)))
        return cls({key: label for key, _, label in pairs}, _label(suffix))

    @property
    def space(self) -> str:
        """Label of the image's space: of its template, else its contrast."""
        if "tpl" in self.entities:
            cohort = self.entities.get("cohort")
            return self.entities["tpl"] + (f"+{cohort}" if cohort else "")
        return self.entities.get("space", self.suffix)

    @property
    def prefix(self) -> str:
        """``sub-01_ses-1_`` and the other entities that name the acquisition."""
        kept = [key for key in _ORDER if key in self.entities]
        return "".join(f"{key}-{self.entities[key]}_" for key in kept)


@dataclass(frozen=True)
class BidsNames:
    """Names of the files of one registration.

    Args:
        fixed: name of the fixed image.
        moving: name of the moving image.
        image_suffix: extension of images, such as ``.nii.gz``.
    """

    fixed: BidsName
    moving: BidsName
    image_suffix: str = ".nii.gz"

    @property
    def _spaces(self) -> tuple[str, str]:
        """Labels of the fixed and of the moving space; never the same."""
        labels = [self.fixed.space, self.moving.space]
        if labels[0] == labels[1]:
            prefixes = self.fixed.prefix, self.moving.prefix
            labels = [
                _label(prefix + label) for prefix, label in zip(prefixes, labels, strict=True)
            ]
        if labels[0] == labels[1]:
            labels = [f"fixed{labels[0]}", f"moving{labels[1]}"]
        return labels[0], labels[1]

    def named(self) -> dict[str, str]:
        """A name for each kind of file, see `stn3d.registration.outputs`."""
        fixed, moving = self._spaces
        prefix, suffix = self.moving.prefix, self.moving.suffix
        space = f"{prefix}space-{fixed}_"
        there = f"{prefix}from-{moving}_to-{fixed}_mode-image_xfm"
        back = f"{prefix}from-{fixed}_to-{moving}_mode-image_xfm"
        return {
            "moved": f"{space}{suffix}{self.image_suffix}",
            "transform": f"{there}.h5",
            "inverse": f"{back}.h5",
            "metrics": f"{prefix}from-{moving}_to-{fixed}_desc-registration_metrics.json",
            "report": f"{prefix}from-{moving}_to-{fixed}_desc-registration_report.html",
            "picture": f"{prefix}from-{moving}_to-{fixed}_desc-registration_report.png",
            "moved_labels": f"{space}dseg{self.image_suffix}",
            "jacobian": f"{space}desc-jacobian_{suffix}{self.image_suffix}",
            "uncertainty": f"{space}desc-uncertainty_{suffix}{self.image_suffix}",
            "moved_sidecar": f"{space}{suffix}.json",
            "transform_sidecar": f"{there}.json",
            "inverse_sidecar": f"{back}.json",
        }

    def sidecars(self, version: str, sources: tuple[str, str]) -> dict[str, dict[str, Any]]:
        """The content of the JSON sidecars.

        Args:
            version: version of stn3d.
            sources: paths of the fixed and of the moving image.
        """
        fixed, moving = self._spaces
        made = {"GeneratedBy": [{"Name": "stn3d", "Version": version}], "Sources": list(sources)}
        return {
            "moved_sidecar": made
            | {"SpatialReference": sources[0], "Description": f"{moving} resampled to {fixed}"},
            "transform_sidecar": made | {"Description": _direction(moving, fixed)},
            "inverse_sidecar": made | {"Description": _direction(fixed, moving)},
        }


def _direction(source: str, target: str) -> str:
    return (
        f"Resamples images from {source} to {target}; maps points of {target} to points of "
        f"{source}. ITK composite transform, LPS+ mm."
    )


def _label(text: str) -> str:
    """Letters and digits alone, as BIDS wants labels."""
    return re.sub(r"[^A-Za-z0-9]", "", text) or "image"
