"""The one exception that means: the input is at fault, and this sentence says how to mend it."""


class InputError(ValueError):
    """Raised for input that stn3d cannot use; the message says what, where and what to do.

    The command line prints the message alone and exits with code 2.
    """
