"""Timings: two ways of doing the same work, in turn. Run with `python -m benchmarks.<name>` on a quiet machine."""
