"""Benchmarks: each prints figures beside their floor from the same run. Never part of the test suite."""
