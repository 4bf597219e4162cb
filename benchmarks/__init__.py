"""Benchmarks, out of the tests: `make bench`."""
