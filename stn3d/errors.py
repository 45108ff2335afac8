"""Exceptions and warnings with messages for users."""

from __future__ import annotations

import reprlib
from typing import Any

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60
_short.maxlevel, _short.maxlist, _short.maxtuple, _short.maxdict, _short.maxset = 3, 6, 6, 4, 4


class InputError(ValueError):
    """Invalid input; the message says what is wrong, where, and how to fix it.

    The command line prints the message without a traceback and exits with code 2.
    """


class GeometryWarning(UserWarning):
    """An image or points were read, but other tools may place them elsewhere in world space."""


class MemoryWarning(UserWarning):
    """The finest level was coarsened to reduce memory use."""


def shown(value: Any) -> str:
    """A value for a message; long and deeply nested ones are shortened."""
    try:
        return _short.repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return f"a number of {value.bit_length()} bits"


def shown_text(text: Any) -> str:
    """A text for a message, shortened, without quotation marks; other values as by `shown`."""
    return shown(text)[1:-1] if isinstance(text, str) else shown(text)
