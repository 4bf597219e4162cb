"""Fixtures that several layers share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The first example of a kernel waits for its compilation, which no deadline can foresee.
settings.register_profile("kernels", deadline=None)
settings.load_profile("kernels")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The real sample days with their ground truth; tests that need it skip where it is absent."""
    named = os.environ.get("MARKET_PIPELINE_SAMPLE_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data" / "binance_2024"
    if not (folder / "lake").is_dir():
        pytest.skip(f"the real sample data is not at {folder} (MARKET_PIPELINE_SAMPLE_DATA)")
    return folder
