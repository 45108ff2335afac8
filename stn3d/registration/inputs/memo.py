"""Values that are computed once and kept for further registrations of an image."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class Memo:
    """Values by key, made at their first use. Not for several threads at once."""

    def __init__(self) -> None:
        self._values: dict[Hashable, Any] = {}

    def of(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key.

        Args:
            key: identifies the value among all that are kept.
            make: makes the value.
        """
        if key not in self._values:
            self._values[key] = make()
        value: T = self._values[key]
        return value
