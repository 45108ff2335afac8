"""What is asked for all pairs of a cohort, and cohort.json, which keeps it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from stn3d import __version__
from stn3d.cohort.layout import STATE, CohortFolder
from stn3d.errors import InputError
from stn3d.io import atomic_write
from stn3d.io.texts import parse_json, read_text
from stn3d.registration.cascade import deformable_network
from stn3d.registration.folders import make_folder, versions
from stn3d.registration.outputs import Outputs
from stn3d.registration.settings import Settings, read_config, settings_from

_SCHEMA_VERSION = 1
_UNIMPORTANT = "threads"  # results do not depend on it
_MOST_MB = 16


@dataclass(frozen=True)
class CohortRequest:
    """Settings and outputs of all pairs.

    Args:
        options: arguments of `stn3d.register` that are given: ``kind``, ``metric``, ``preset``,
            ``init``, ``threads`` and so on.
        config: content of the config file.
        outputs: arguments of `Outputs`.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        options: Mapping[str, Any],
        config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> CohortRequest:
        """A request, checked; options that are None are not given.

        Raises:
            InputError: a setting is unknown or does not fit.
        """
        given = {key: value for key, value in options.items() if value is not None}
        request = cls(given, read_config(config), dict(outputs or {}))
        _ = deformable_network(request.settings), Outputs(**request.outputs)
        return request

    @property
    def settings(self) -> Settings:
        """The settings of every pair, before automatic selections."""
        return settings_from(self.options, self.config)

    @property
    def content(self) -> dict[str, Any]:
        """What determines the results, for JSON."""
        options = {name: _plain(v) for name, v in self.options.items() if name != _UNIMPORTANT}
        config = {name: value for name, value in self.config.items() if name != _UNIMPORTANT}
        return {"options": options, "config": config, "outputs": dict(self.outputs)}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content and of stn3d's version."""
        text = json.dumps({**self.content, "stn3d": __version__}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A setting as JSON has it."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def open_cohort(folder: CohortFolder, request: CohortRequest, *, rerun: bool = False) -> None:
    """Create the folder and cohort.json, or check that the folder holds a cohort of this request.

    A cohort is of one version and of one set of settings, so that its results can be compared.

    Args:
        folder: the folder of the cohort.
        request: what is asked for all pairs.
        rerun: accept other settings or another version; pairs that have them are registered again.

    Raises:
        InputError: the folder cannot be written, or holds a cohort of other settings or of another
            version of stn3d.
    """
    make_folder(folder.root)
    for one in (folder.records, folder.locks):
        make_folder(one)
    new = {"schema_version": _SCHEMA_VERSION, **request.content, "versions": versions()}
    text = json.dumps(new, indent=2) + "\n"
    if request.outputs.get("bids"):
        _describe_dataset(folder)
    if not _create(folder.description, text):
        difference = _difference(_known(folder.description), new)
        if difference and not rerun:
            raise InputError(
                f"{folder.root} holds a cohort with {difference}; give another --out, the same "
                "settings, or --rerun to register its pairs again."
            )
        if difference:
            with atomic_write(folder.description) as part:
                part.write_text(text, encoding="utf8")


def _describe_dataset(folder: CohortFolder) -> None:
    """The files that make the folder a BIDS dataset of derivatives."""
    made = {
        "Name": "Registration to a template",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "stn3d", "Version": __version__}],
    }
    _create(folder.root / "dataset_description.json", json.dumps(made, indent=2) + "\n")
    own = (STATE, folder.description.name, folder.summary.name, "index.html")
    _create(folder.root / ".bidsignore", "\n".join(own) + "\n")


def _create(path: Path, text: str) -> bool:
    """Write a file unless there is one: of several processes one writes it, and it is whole."""
    if path.exists():
        return False
    part = path.with_name(f".part-{uuid4().hex[:12]}-{path.name}")
    try:
        part.write_text(text, encoding="utf8")
        try:
            os.link(part, path)
        except FileExistsError:
            return False
        except OSError:  # no hard links here
            os.replace(part, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; give another --out.") from None
    finally:
        with suppress(OSError):
            part.unlink()
    return True


def _known(path: Path) -> Mapping[str, Any]:
    """The content of cohort.json."""
    text = read_text(path, "description of the cohort", "give another --out", _MOST_MB)
    try:
        found = parse_json(text)
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}; remove it, or give another --out.") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} describes no cohort; give another --out.")
    return found


def _difference(known: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs, in words; empty if nothing does."""
    before, now = known.get("versions", {}).get("stn3d"), new["versions"]["stn3d"]
    if before != now:
        return f"results of stn3d {before}, and this is {now}"
    for part in ("options", "config", "outputs"):
        old, wanted = known.get(part, {}), json.loads(json.dumps(new[part]))
        for key in sorted({*old, *wanted}):
            if old.get(key) != wanted.get(key):
                return f"{key} {_said(old.get(key))}, and {_said(wanted.get(key))} is asked for"
    return ""


def _said(value: Any) -> str:
    return "by default" if value is None else str(value)
