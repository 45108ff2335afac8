"""Let torch's CPU threads sleep while they wait; must be imported before torch.

By default they spin, and where anything else wants the cores a registration takes three to five
times as long. Whoever sets OMP_WAIT_POLICY, or imports torch first, keeps what they have.
"""

import os
import sys

if "torch" not in sys.modules:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
