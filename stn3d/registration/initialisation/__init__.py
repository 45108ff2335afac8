"""Initial transforms: candidates, exhaustive search, strategies."""
