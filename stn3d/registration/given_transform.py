"""The initial transform as it is given: a method's name, transforms, or their files."""

from __future__ import annotations

import os
from typing import Any

from stn3d.choices import INITIAL_METHODS
from stn3d.errors import InputError
from stn3d.io import ImageSource, as_transform, read_specs
from stn3d.io.texts import shown_path
from stn3d.registration.inputs import RegistrationImage
from stn3d.transforms import Transform, chain


def initial_transform(
    init: Any, fixed: RegistrationImage | ImageSource, moving: RegistrationImage | ImageSource
) -> Transform | None:
    """None for a method's name; else the transform, or the transforms one after another.

    Args:
        init: see `register`.
        fixed: the fixed image, for formats that need it.
        moving: the moving image, likewise.

    Raises:
        InputError: a transform cannot be read, or it is neither a file nor the name of a method.
    """
    if isinstance(init, str) and init in INITIAL_METHODS:
        return None
    images = [RegistrationImage.of(one).image for one in (fixed, moving)]
    given: Any = init if isinstance(init, tuple) else (init,)
    if not all(isinstance(one, str | os.PathLike) for one in given):
        return chain(*(as_transform(one, fixed=images[0], moving=images[1]) for one in given))
    specs = [os.fspath(one) for one in given]
    try:
        return read_specs(specs, fixed=images[0], moving=images[1])
    except InputError:
        for spec in specs:
            if ":" not in spec and not os.path.exists(spec):
                methods = ", ".join(INITIAL_METHODS)
                raise InputError(
                    f"--init {shown_path(spec)} is neither a file nor one of {methods}."
                ) from None
        raise
