"""Tells the report what the rebuild made of messages that stand wrong in their feed."""

from __future__ import annotations

from collections.abc import Iterator

from market_pipeline.books.record import RebuildRecord
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
    figures = AppliedOrderFigures.taken_from(record, sequence_restarts=record.restarts)
    return Measured((figures,), list(_findings(record)))


def _findings(record: RebuildRecord) -> Iterator[Finding]:
    for place, (counted, expected, note) in _PLACES.items():
        at_ns = getattr(record, f"{place}_ns")
        if not at_ns or not any(getattr(record, name) for name in counted):
            continue
        number = getattr(record, f"{place}_sequence_number", None)
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
