"""Measurements of otdist against its peers; run as modules, e.g. ``python -m benchmarks.divergences``."""
