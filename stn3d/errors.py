"""Exceptions and warnings with messages for users."""


class InputError(ValueError):
    """Invalid input; the message says what is wrong, where, and how to fix it.

    The command line prints the message without a traceback and exits with code 2.
    """


class GeometryWarning(UserWarning):
    """An image or points were read, but other tools may place them elsewhere in world space."""


class MemoryWarning(UserWarning):
    """The finest level was coarsened to reduce memory use."""
