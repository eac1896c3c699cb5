"""Benchmark scripts. `python -m benchmarks.NAME --json FILE` writes a record; see results/."""
