"""A dark sphere in one of two brains: its effect on a registration, with and without a mask.

    python -m scripts.bench lesion run --work DIR [--pairs "1002 1010,1006 1013,1007 1036"]
        [--count 2] [--options "--preset default"] [--by exclude]

A pair is "FIXED MOVING", T1 brains of two people (shared/data/brains), or "1002 1002~3": one brain,
and the same deformed by a known transform of shared/bench/make_truth.py, here with seed 3; then
errors against the truth are measured too. For each pair, side and number a sphere of 15 mm diameter
and a tenth of the brain's median brightness is put into the fixed or the moving brain, anywhere at
least 20 mm inside it (drawn from --seed, the people and the number). The pair is registered as it
was ("free", once), with the sphere ("plain") and with the sphere and its mask ("masked":
--fixed-exclude or --moving-exclude, the sphere grown by 1 mm; with --by mask, --fixed-mask or
--moving-mask, its complement).

Everything is measured from the files transform.h5 and inverse.h5, by SimpleITK; the
``excluded_regions`` of metrics.json are kept in the rows.
"""

from scripts.bench.studies.lesion.measure import Options, run
from scripts.bench.studies.lesion.page import report

__all__ = ["Options", "report", "run"]
