"""Tells the report what the rebuild made of messages that stand wrong in their feed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from market_pipeline.quality.checks.base import time_text
from market_pipeline.quality.figures.book import AppliedOrderFigures
from market_pipeline.quality.findings import Finding, Measured
from market_pipeline.stages.validation.context import InstrumentDay

__all__ = ["measure_ordering"]

_PLACES = {
    "first_old": (
        ("stale_messages", "repeated_messages", "late_messages"),
        "a number above that of the message before",
        "The first message that stands behind later ones; it changes nothing that they set.",
    ),
    "first_restart": (
        ("restarts",),
        "a number above that of the message before",
        "From this message on the sequence numbers begin anew.",
    ),
    "first_split": (
        ("split_messages",),
        "all rows of a message under one receipt time",
        "The first message of which the next one has the number and the exchange's time.",
    ),
    "first_bad_sequence": (
        ("bad_sequences",),
        "a number between those of the messages around it",
        "The first message whose sequence number the messages around it contradict.",
    ),
}
"""Of each first place in `books.rebuilds`: the columns that count it, what would have been right,
and what it is.
"""


def measure_ordering(day: InstrumentDay) -> Measured:
    """What was not applied, and which numbers were not believed, with the first place of each."""
    record = day.record
    figures = AppliedOrderFigures(
        stale_messages=record.get("stale_messages"),
        repeated_messages=record.get("repeated_messages"),
        late_messages=record.get("late_messages"),
        sequence_restarts=record.get("restarts"),
        split_messages=record.get("split_messages"),
        bad_sequences=record.get("bad_sequences"),
        first_old_ns=record.get("first_old_ns") or None,
        first_restart_ns=record.get("first_restart_ns") or None,
        first_split_ns=record.get("first_split_ns") or None,
        first_bad_sequence_ns=record.get("first_bad_sequence_ns") or None,
    )
    return Measured((figures,), list(_findings(record)))


def _findings(record: Mapping[str, Any]) -> Iterator[Finding]:
    for place, (counted, expected, note) in _PLACES.items():
        at_ns = record.get(f"{place}_ns")
        if not at_ns or not any(record.get(name) for name in counted):
            continue
        number = record.get(f"{place}_sequence_number")
        yield Finding(
            check="ordering",
            place="first",
            ts_receipt_ns=at_ns,
            sequence_number=number,
            column="sequence_number",
            value=time_text(at_ns) if number is None else str(number),
            expected=expected,
            note=note,
        )
