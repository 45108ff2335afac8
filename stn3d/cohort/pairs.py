"""The pairs of a cohort: from a table, or each subject's image of a BIDS folder and a template."""

from __future__ import annotations

import importlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stn3d.choices import INITIAL_METHODS
from stn3d.errors import InputError, shown_text
from stn3d.io.pair_tables import TableRow, cell_path, pair_names, read_pair_table
from stn3d.io.texts import shown_path
from stn3d.registration.bids import BidsName

_SIDES = ("mask", "exclude", "labels", "points")
FILES = ("fixed", "moving", *(f"{r}_{what}" for r in ("fixed", "moving") for what in _SIDES))
COLUMNS = ("name", "pair", *FILES, "init")
_MOST_BYTES = 150  # of a name, which begins the names of files
_IMAGES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class CohortPair:
    """A pair of a cohort.

    Args:
        name: its name, which no other pair has.
        files: absolute paths: ``fixed``, ``moving``, and where given ``fixed_mask``,
            ``fixed_exclude``, ``fixed_labels``, ``fixed_points``, the same of ``moving``, and
            ``init``, the initial transform.
        folder: folder of its results, relative to that of the cohort.
    """

    name: str
    files: Mapping[str, str]
    folder: str

    def missing(self) -> list[str]:
        """The files that do not exist, with their roles."""
        return [
            f"{role} {path}"
            for role, path in self.files.items()
            if role != "init" and not os.path.exists(path)
        ]


def read_cohort(
    source: str | os.PathLike[str],
    *,
    template: str | None = None,
    fixed: Mapping[str, str] | None = None,
    init: str | None = None,
    suffix: str = "T1w",
    participants: Sequence[str] = (),
) -> list[CohortPair]:
    """The pairs of a table or of a BIDS folder.

    Args:
        source: CSV or TSV file with the columns ``moving``, ``fixed`` (unless there is a template),
            and optionally ``name`` (or ``pair``), ``fixed_mask``, ``moving_mask``,
            ``fixed_exclude``, ``moving_exclude``, ``fixed_labels``, ``moving_labels``,
            ``fixed_points``, ``moving_points``, ``init``. Paths are relative to its folder. Or a
            BIDS folder, of which every image with the suffix is a moving image.
        template: fixed image of all pairs, see `template_path`.
        fixed: files that belong to the template: ``fixed_mask``, ``fixed_labels``, ...
        init: initial transform of the pairs that have none; names of methods are ignored.
        suffix: BIDS suffix of the images.
        participants: BIDS labels, with or without ``sub-``. Default: all.

    Raises:
        InputError: the table or folder cannot be read or holds no pairs, or two pairs have one
            name.
    """
    given = {name: os.path.abspath(path) for name, path in (fixed or {}).items()}
    if template is not None:
        given["fixed"] = os.path.abspath(template_path(template))
    elif given:  # nothing that these files could belong to
        raise InputError("masks and labels of the template are given without it; give --to.")
    if init is not None and init not in INITIAL_METHODS:
        given["init"] = cell_path(Path.cwd(), init, transform=True)
    if os.path.isdir(source):
        if "fixed" not in given:
            raise InputError(
                f"{shown_path(source)} is a folder, which needs a template; give its path by --to."
            )
        return _of_bids(Path(source), given, suffix, participants)
    if participants:
        raise InputError("--participant selects subjects of a BIDS folder; edit the table instead.")
    return _of_table(source, given)


def _of_table(path: str | os.PathLike[str], given: Mapping[str, str]) -> list[CohortPair]:
    rows = read_pair_table(path, COLUMNS)
    folder = Path(os.path.abspath(path)).parent
    files = [_files(path, folder, row, given) for row in rows]
    named = [row.cells.get("name") or row.cells.get("pair") for row in rows]
    made = named if all(named) else pair_names(files)
    names = [name or str(default) for name, default in zip(named, made, strict=True)]
    lines: dict[str, int] = {}
    for row, name in zip(rows, names, strict=True):
        _check_name(f"{path}, line {row.line}", name)
        other = lines.setdefault(name.casefold(), row.line)
        if other != row.line:
            raise InputError(
                f"{path}: lines {other} and {row.line} are both named {shown_text(name)}; give "
                "each pair a name of its own in the column name."
            )
    return [CohortPair(name, one, name) for name, one in zip(names, files, strict=True)]


def _files(
    path: str | os.PathLike[str], folder: Path, row: TableRow, given: Mapping[str, str]
) -> dict[str, str]:
    """The files of a row, with those that all rows share."""
    own = {
        column: os.path.normpath(cell_path(folder, row.cells[column]))
        for column in FILES
        if column in row.cells
    }
    if "init" in row.cells:
        own["init"] = cell_path(folder, row.cells["init"], transform=True)
    shared = {"init"} if "fixed" in own else set(given)
    found = {**{name: path for name, path in given.items() if name in shared}, **own}
    for role in ("fixed", "moving"):
        if role not in found:
            template = ", or a template by --to" if role == "fixed" else ""
            raise InputError(f"{path}, line {row.line}: no {role}; give the image{template}.")
    return found


def _check_name(where: str, name: str) -> None:
    """Check that a folder can have a name, and that it does not leave the cohort's folder."""
    reserved = name.casefold() in ("index.html", "summary.csv", "cohort.json")
    if name.startswith(".") or re.search(r'[/\\:*?"<>|\x00-\x1f]', name) or reserved:
        raise InputError(
            f"{where}: the name {shown_text(name)} cannot be that of a folder of results; use "
            "letters, digits, - and _."
        )
    if len(os.fsencode(name)) > _MOST_BYTES:
        raise InputError(
            f"{where}: the name {shown_text(name)} is longer than {_MOST_BYTES} bytes; give a "
            "shorter one in the column name."
        )


def _of_bids(
    root: Path, given: Mapping[str, str], suffix: str, participants: Sequence[str]
) -> list[CohortPair]:
    found = []
    for folder in _subject_folders(root, participants):
        for image in sorted(_images(folder, suffix)):
            relative = image.parent.relative_to(root).as_posix()
            name = next(image.name.removesuffix(s) for s in _IMAGES if image.name.endswith(s))
            files = {**given, "moving": os.path.abspath(image)}
            found.append(CohortPair(name, files, relative))
    if not found:
        raise InputError(
            f"{shown_path(root)} holds no image sub-*/[ses-*/]anat/*_{suffix}.nii.gz; give a BIDS "
            "folder, or another --suffix."
        )
    names = Counter(pair.name for pair in found)
    twice = [name for name, times in names.items() if times > 1]
    if twice:
        raise InputError(f"{root} holds {twice[0]} as .nii and as .nii.gz; remove one of them.")
    return found


def _subject_folders(root: Path, participants: Sequence[str]) -> list[Path]:
    """The folders of subjects, or of those that are asked for.

    Raises:
        InputError: a subject has no folder.
    """
    if not participants:
        return sorted(one for one in root.glob("sub-*") if one.is_dir())
    folders = [root / f"sub-{label.removeprefix('sub-')}" for label in participants]
    for folder in folders:
        if not os.path.isdir(folder):
            raise InputError(f"{shown_path(root)} has no subject {folder.name}; check the label.")
    return folders


def _images(subject: Path, suffix: str) -> Iterable[Path]:
    """Images of a subject with a suffix; phases and derivatives are omitted."""
    for pattern in ("anat", "ses-*/anat"):
        for extension in _IMAGES:
            for image in subject.glob(f"{pattern}/*_{suffix}{extension}"):
                entities = BidsName.of(image.name).entities
                if not {"space", "desc"} & set(entities) and entities.get("part") != "phase":
                    yield image


def template_path(template: str) -> str:
    """The path of a template.

    Args:
        template: path of an image, or the name of a template of TemplateFlow, such as
            ``MNI152NLin2009cAsym`` (its T1-weighted head at 1 mm), where that is installed.

    Raises:
        InputError: there is no such file or template.
    """
    if os.path.exists(template):
        return template
    where = f"there is no template {shown_path(template)}"
    if os.sep in template or template.endswith(_IMAGES):
        raise InputError(f"{where}; check the path.")
    try:
        api: Any = importlib.import_module("templateflow.api")
    except ImportError:
        raise InputError(
            f"{where}, and TemplateFlow is not installed; give a path, or pip install templateflow."
        ) from None
    if template not in api.templates():
        raise InputError(f"{where}, neither a file nor of TemplateFlow; check the name.")
    found = api.get(template, resolution=1, suffix="T1w", desc=None, extension=".nii.gz")
    if not isinstance(found, Path):
        raise InputError(f"TemplateFlow's {template} has no T1w image of 1 mm; give its path.")
    return str(found)
