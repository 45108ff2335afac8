"""How torch uses this process's threads and memory; must be imported before torch.

GNU OpenMP spins for a millisecond by default. Where anything else wants the cores, a registration
then takes three to five times as long; with a hundredth of it an idle machine loses nothing.
Large pages for torch's memory make a new volume cost a third of what it costs in small ones
(Linux; elsewhere nothing changes).

Whoever sets OMP_WAIT_POLICY, GOMP_SPINCOUNT or THP_MEM_ALLOC_ENABLE, or imports torch first, keeps
what they have.
"""

import os
import sys

if "torch" not in sys.modules:
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")
