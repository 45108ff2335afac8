"""Settings of the process that must be made before torch is imported, and its imports themselves.

GNU OpenMP spins for a millisecond by default. Where another process wants the cores, a registration
then takes three to five times as long; with a hundredth of it an idle machine loses nothing.
Large pages for torch's memory make a new volume cost a third of what it costs in small ones
(Linux; elsewhere nothing changes). While torch is imported, the garbage collector would scan its
several hundred thousand lasting objects again and again, a quarter of a second in all.

A value of OMP_WAIT_POLICY, GOMP_SPINCOUNT or THP_MEM_ALLOC_ENABLE that is set already is kept.
"""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def set_environment() -> None:
    """Set the variables that torch reads when it is imported; nothing if it is imported already."""
    if "torch" not in sys.modules:
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
        if "OMP_WAIT_POLICY" not in os.environ:
            os.environ.setdefault("GOMP_SPINCOUNT", "3000")


@contextmanager
def starting() -> Iterator[None]:
    """Around imports that import torch: its environment is set, the garbage collector is off."""
    set_environment()
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
