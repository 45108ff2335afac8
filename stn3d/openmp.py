"""Let torch's CPU threads spin only briefly while they wait; must be imported before torch.

GNU OpenMP spins for a millisecond by default. Where anything else wants the cores, a registration
then takes three to five times as long; with a hundredth of it an idle machine loses nothing.
Whoever sets OMP_WAIT_POLICY or GOMP_SPINCOUNT, or imports torch first, keeps what they have.
"""

import os
import sys

if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
