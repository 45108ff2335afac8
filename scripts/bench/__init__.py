"""Benchmarks of stn3d, started by ``python -m scripts.bench STUDY run|report``.

``run`` measures, ``report`` writes the page. The studies are in `scripts.bench.studies`. Every
study writes one folder: ``results.json`` in the format of `scripts.bench.store`, ``README.md``, and
pictures where there are any.
"""
