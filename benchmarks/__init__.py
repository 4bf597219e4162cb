"""Benchmarks, out of the tests: `make bench`. docs/benchmarks.md has the method and the results."""
