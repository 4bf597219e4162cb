"""Benchmarks, out of the tests: `make bench`. docs/benchmarks.md has the method and the results."""

# Before Polars, as in a run: it says how Polars' allocator is to keep its memory.
import market_pipeline  # noqa: F401
