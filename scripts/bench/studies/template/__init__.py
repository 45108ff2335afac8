"""Templates of 15 brains and of the visits of one person.

    python -m scripts.bench template run --work DIR

What is measured and how is said in `page.ABOUT`, the head of the results page.
"""

from scripts.bench.studies.template.page import report
from scripts.bench.studies.template.study import Options, run

__all__ = ["Options", "report", "run"]
