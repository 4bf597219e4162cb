"""One pipeline with a good instrument and an instrument without data, and three runs of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest

from market_pipeline.sources.simulated import simulate
from market_pipeline_tests.defs.workspace import Finished, Workspace, days_arguments
from market_pipeline_tests.sources.simulated.days import DAY, NEXT_DAY, instrument

GOOD, NONE = "SIMULATED:GOOD-USD", "SIMULATED:NONE-USD"
THIRD_DAY = NEXT_DAY + timedelta(days=1)


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two instruments, of which one has raw files of one day; nothing was run yet."""
    root = tmp_path_factory.mktemp("cli")
    made = Workspace(
        root,
        root / "lake",
        more={
            "PIPELINE_CHECKPOINT_SECONDS": "21600",
            "PIPELINE_METRICS": "true",
            "PIPELINE_TRACES": "true",
        },
    )
    instruments = [instrument("GOOD-USD"), instrument("NONE-USD")]
    made.configure(*instruments)
    small = {"messages_per_day": 8_000, "snapshot_interval_s": 20.0}
    simulate(made.lake, instruments[:1], DAY, DAY, **small)
    return made


@dataclass(frozen=True)
class Runs:
    """How three runs ended: a good day, two days that are missing, a day not yet due."""

    good: Finished
    missing: Finished
    pending: Finished


@pytest.fixture(scope="session")
def runs(workspace: Workspace) -> Runs:
    """Runs that leave four verdicts: three of the good instrument, one of the other."""
    good = workspace.start(*days_arguments(DAY), "--instrument", GOOD)
    missing = workspace.start(*days_arguments(NEXT_DAY, THIRD_DAY), "--instrument", GOOD)
    workspace.more["PIPELINE_VENDOR_LAG_HOURS"] = "1000000"
    pending = workspace.start(*days_arguments(DAY), "--instrument", NONE)
    del workspace.more["PIPELINE_VENDOR_LAG_HOURS"]
    return Runs(good.finish(), missing.finish(), pending.finish())
