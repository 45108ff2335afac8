"""Lists of image pairs.

A pair maps keys to files: ``fixed`` and ``moving``, and optionally ``fixed_labels``,
``moving_labels``, ``fixed_mask``, ``moving_mask``, ``fixed_points``, ``moving_points`` (CSV, world
millimetres), ``initial`` (a linear initial transform) and ``truth`` (the true transform); both
transforms map fixed to moving points.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path

from stn3d.errors import InputError
from stn3d.io.pair_tables import ROLES, file_stem
from stn3d.io.texts import parse_json, read_text, shown_path

_MOST_MB = 100
KEYS = (
    *ROLES,
    *(f"{role}_{what}" for role in ROLES for what in ("labels", "mask", "points")),
    "initial",
    "truth",
)
_EXTRAS = ("labels", "mask", "points")


def read_pairs(path: str | os.PathLike[str], key: str = "training") -> list[dict[str, str]]:
    """The pairs of a datalist or of a folder.

    Args:
        path: A JSON file with a list of pairs, or with a mapping that holds such a list under
            ``key`` (as in MONAI's datalists); paths are relative to the file. Or a folder: all
            ordered pairs of its images. ``NAME_labels.nii.gz``, ``NAME_mask.nii.gz`` and
            ``NAME_points.csv`` belong to the image ``NAME`` or ``NAME_...``.
        key: List of the datalist: ``training``, ``validation``, ``testing``.

    Raises:
        InputError: The path is empty, there are no pairs, or a pair has an unknown key, a missing
            image or file.
    """
    if not os.fspath(path):
        raise InputError("no image pairs are given; set a JSON datalist or a folder of images.")
    path = Path(path)
    pairs = _pairs_of_folder(path) if os.path.isdir(path) else _pairs_of_json(path, key)
    if not pairs:
        raise InputError(f"{path} holds no pairs of images; at least two images are needed.")
    for number, pair in enumerate(pairs):
        _check(pair, f"pair {number} of {path}")
        if pair.keys() != pairs[0].keys():
            odd = ", ".join(sorted(pair.keys() ^ pairs[0].keys()))
            raise InputError(
                f"pair {number} of {path} has other keys than pair 0 ({odd}); all pairs need the "
                "same keys."
            )
    return pairs


def _check(pair: Mapping[str, str], where: str) -> None:
    for key in pair:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, 1, 0)[0]
            raise InputError(f"{where} has an unknown key {key!r}; did you mean {near!r}?")
    for role in ROLES:
        if role not in pair:
            raise InputError(f"{where} has no {role!r}; add the file of the {role} image.")
    for file in pair.values():
        if not os.path.exists(file):
            raise InputError(f"{where}: {shown_path(file)} does not exist; check the path.")


def _pairs_of_json(path: Path, key: str) -> list[dict[str, str]]:
    if not os.path.exists(path):
        raise InputError(
            f"the datalist or folder {shown_path(path)} does not exist; check the path."
        )
    text = read_text(path, "datalist", "give a JSON file", _MOST_MB)
    try:
        content = parse_json(text)
    except ValueError as error:
        raise InputError(f"the datalist {path} cannot be read as JSON: {error}.") from None
    if isinstance(content, dict):
        if key not in content:
            held = ", ".join(content)
            raise InputError(f"the datalist {path} has no list {key!r}; it has: {held}.")
        content = content[key]
    if not (isinstance(content, list) and all(isinstance(pair, dict) for pair in content)):
        raise InputError(f"the datalist {path} is not a list of pairs; see stn3d.data.read_pairs.")
    return [{k: str(path.parent / str(v)) for k, v in pair.items()} for pair in content]


def _pairs_of_folder(folder: Path) -> list[dict[str, str]]:
    images, extras = {}, dict[str, dict[str, Path]]()
    for file in sorted(folder.iterdir()):
        stem = file_stem(file)
        name, _, last = (stem or "").rpartition("_")
        if stem is not None and last in _EXTRAS:
            extras.setdefault(name, {})[last] = file
        elif stem is not None and file.suffix != ".csv":
            images[stem] = file
    pairs = []
    for fixed, moving in permutations(images, 2):
        pair = {"fixed": str(images[fixed]), "moving": str(images[moving])}
        for role, stem in zip(ROLES, (fixed, moving), strict=True):
            owner = next((n for n in extras if stem == n or stem.startswith(n + "_")), None)
            for what, file in extras.get(owner or "", {}).items():
                pair[f"{role}_{what}"] = str(file)
        pairs.append(pair)
    return pairs
