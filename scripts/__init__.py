"""Command-line entry points of the repository, and its benchmarks (`scripts.bench`)."""
