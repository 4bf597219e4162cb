"""Imported once before the tests: workers that start together would each compile the simulation."""

import tempfile
from pathlib import Path

from market_pipeline.sources.simulated import simulate
from market_pipeline_tests.sources.simulated.days import DAY, instrument

with tempfile.TemporaryDirectory() as folder:
    simulate(Path(folder), [instrument("ANY-USD")], DAY, DAY, messages_per_day=100)
