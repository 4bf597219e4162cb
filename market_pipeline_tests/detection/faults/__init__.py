"""The kinds of faults that are put into raw days, in the order of the classes they belong to."""

from __future__ import annotations

from market_pipeline_tests.detection.faults import (
    captures,
    clocks,
    files,
    message_rows,
    messages,
    numbers,
    silences,
    snapshots,
    trades,
    values,
)
from market_pipeline_tests.detection.faults.registry import Case, Kind, compose, registered

__all__ = ["CASES", "KINDS", "Case", "Kind", "compose"]

_MODULES = (
    messages,
    message_rows,
    values,
    numbers,
    clocks,
    snapshots,
    trades,
    silences,
    files,
    captures,
)
KINDS: tuple[Kind, ...] = registered()
CASES: dict[str, Case] = {case.name: case for kind in KINDS for case in kind.each_case()}
"""Every kind with each of its arguments, by name."""
