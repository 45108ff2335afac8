"""Exceptions and warnings whose message alone tells a user what is wrong and what to do."""


class InputError(ValueError):
    """Raised for input that stn3d cannot use; the message says what, where and what to do.

    The command line prints the message alone and exits with code 2.
    """


class GeometryWarning(UserWarning):
    """An image or points can be read, but other tools may place them elsewhere in the world."""


class MemoryWarning(UserWarning):
    """The finest level is coarser than the settings say, so that less memory is used."""
