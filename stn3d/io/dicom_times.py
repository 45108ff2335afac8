"""Time points of a DICOM series: which of several slices at one position belong to one volume.

An attribute orders the slices if it has a value for each, and if these values divide the series
into complete volumes. Nothing is guessed from the names or the order of files.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Attribute:
    """A DICOM attribute that may distinguish the slices at one position.

    Args:
        keyword: of the attribute.
        tag: in messages.
        group: sequence of a frame that holds its counterpart in enhanced multi-frame files; empty
            if there is none.
        in_group: keyword of the counterpart.
        unit_s: unit of the values in seconds; None where they are no times.
    """

    keyword: str
    tag: str
    group: str = ""
    in_group: str = ""
    unit_s: float | None = None


_INSTANCE = Attribute("InstanceNumber", "(0020,0013)")
ATTRIBUTES = (
    Attribute(
        "TemporalPositionIdentifier", "(0020,0100)", "FrameContentSequence", "TemporalPositionIndex"
    ),
    Attribute(
        "TriggerTime",
        "(0018,1060)",
        "CardiacSynchronizationSequence",
        "NominalCardiacTriggerDelayTime",
        1e-3,
    ),
    Attribute("EchoNumbers", "(0018,0086)", "MREchoSequence", "EffectiveEchoTime"),
    Attribute(
        "AcquisitionTime", "(0008,0032)", "FrameContentSequence", "FrameAcquisitionDateTime", 1.0
    ),
    _INSTANCE,
)
"""In this order: the first one that divides a series into complete volumes is used."""

KEYWORDS = (*(one.keyword for one in ATTRIBUTES), "AcquisitionDate")
"""Attributes to read of each file."""


def values_of(header: Any, frame: Any) -> dict[str, float]:
    """The values of `ATTRIBUTES` that a slice has.

    Args:
        header: data set of the file.
        frame: item of the per-frame functional groups, or ``header`` where there are none.
    """
    found = {}
    for one in ATTRIBUTES:
        if frame is header:
            value = _number(header.get(one.keyword))
            if value is not None and one.keyword == "AcquisitionTime":
                value += _number(header.get("AcquisitionDate"), is_date=True) or 0.0
        else:
            groups = frame.get(one.group) if one.group else None
            value = _number(groups[0].get(one.in_group)) if groups else None
        if value is not None and math.isfinite(value):
            found[one.keyword] = value
    return found


def _number(value: Any, is_date: bool = False) -> float | None:
    """A number; of a time of day the seconds since midnight, of a date those since year 1."""
    from pydicom.valuerep import DA, DT, TM

    try:
        if not isinstance(value, str):
            return None if value is None else float(value)
        if is_date:
            return _seconds(DA(value))
        digits = len(value.split(".")[0].strip())
        return _seconds(TM(value) if digits <= 6 else DT(value))
    except (TypeError, ValueError, AttributeError):
        return None


def _seconds(when: Any) -> float | None:
    if isinstance(when, datetime.datetime):
        return when.toordinal() * 86400.0 + _seconds_of_day(when)
    if isinstance(when, datetime.date):
        return when.toordinal() * 86400.0
    return None if when is None else _seconds_of_day(when)


def _seconds_of_day(when: Any) -> float:
    return float(when.hour * 3600 + when.minute * 60 + when.second + when.microsecond * 1e-6)


@dataclass(frozen=True)
class TimePoints:
    """The volumes of a series.

    Args:
        rows: ``(T, n)`` numbers of the slices of each volume, by position.
        attribute: what orders the volumes.
        interval_s: time between two volumes; 0 where it is unknown or uneven.
    """

    rows: NDArray[np.intp]
    attribute: Attribute
    interval_s: float = 0.0


def time_points(
    places: Sequence[int] | NDArray[np.intp], values: Sequence[Mapping[str, float]]
) -> TimePoints | None:
    """Divide slices into volumes.

    Args:
        places: number of the position of each slice, 0 to n - 1.
        values: see `values_of`, of each slice.

    Returns:
        The volumes; None if the positions have different numbers of slices, or if no attribute
        divides them into complete volumes.
    """
    counts = np.bincount(places)
    if counts.min() != counts.max():
        return None
    for attribute in ATTRIBUTES:
        keys = [one.get(attribute.keyword) for one in values]
        if any(key is None for key in keys):
            continue
        rows = _rows(np.array(places), np.array(keys, dtype=float), attribute is _INSTANCE)
        if rows is not None:
            return TimePoints(rows, attribute, _interval_s(rows, values))
    return None


def _rows(
    places: NDArray[np.intp], keys: NDArray[np.float64], is_number: bool
) -> NDArray[np.intp] | None:
    """Slices by volume and position, if their keys in order run through the volumes one by one.

    Numbers may also run through all volumes of one position before the next position.
    """
    count = int(places.max()) + 1
    order = np.lexsort((places, keys))
    blocks, ordered = order.reshape(-1, count), keys[order].reshape(-1, count)
    is_complete = (np.sort(places[blocks], axis=1) == np.arange(count)).all()
    if is_complete and (ordered[1:, 0] > ordered[:-1, -1]).all():
        return np.stack([block[np.argsort(places[block])] for block in blocks])
    if not is_number or len(np.unique(keys)) < len(keys):
        return None
    columns = order.reshape(count, -1)
    if (places[columns] != places[columns[:, :1]]).any():
        return None
    return columns[np.argsort(places[columns[:, 0]])].T


def _interval_s(rows: NDArray[np.intp], values: Sequence[Mapping[str, float]]) -> float:
    """Time between two volumes, by the first attribute that gives even times."""
    for attribute in (one for one in ATTRIBUTES if one.unit_s is not None):
        keys = [one.get(attribute.keyword, math.nan) for one in values]
        starts = np.array(keys, dtype=float)[rows].min(axis=1) * (attribute.unit_s or 0.0)
        steps = np.diff(starts)
        middle = float(np.median(steps)) if len(steps) else 0.0
        if middle > 0 and float(np.abs(steps - middle).max()) <= 0.1 * middle:
            return middle
    return 0.0
