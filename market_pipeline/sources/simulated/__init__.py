"""Source `simulated`: a seeded, deterministic venue in Crypto Lake's raw layout.

Its message boundary, clocks and sequence numbers are Crypto Lake's: the rows of one message share
`sequence_number` and `receipt_timestamp`; sequence numbers rise but are not dense, so a jump proves
nothing; a day file begins mid-stream. See docs/sources/simulated.md.
"""

from __future__ import annotations

from market_pipeline.sources.simulated.plan import (
    Fault,
    FaultKind,
    SimulatedInstrument,
    SimulationPlan,
    demo_plan,
    range_plan,
)
from market_pipeline.sources.simulated.simulation import simulate

__all__ = [
    "Fault",
    "FaultKind",
    "SimulatedInstrument",
    "SimulationPlan",
    "demo_plan",
    "range_plan",
    "simulate",
]
