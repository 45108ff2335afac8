"""How Python and torch are set before torch is imported.

GNU OpenMP spins for a millisecond by default. Where anything else wants the cores, a registration
then takes three to five times as long; with a hundredth of it an idle machine loses nothing.
Large pages for torch's memory make a new volume cost a third of what it costs in small ones
(Linux; elsewhere nothing changes). The garbage collector would look through the several hundred
thousand lasting objects of torch's modules again and again, a quarter of a second in all.

Whoever sets OMP_WAIT_POLICY, GOMP_SPINCOUNT or THP_MEM_ALLOC_ENABLE, or imports torch first, keeps
what they have.
"""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def starting() -> Iterator[None]:
    """Around the imports of a package that imports torch."""
    if "torch" not in sys.modules:
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
        if "OMP_WAIT_POLICY" not in os.environ:
            os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
