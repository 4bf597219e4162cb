"""Tells the report what the rebuild made of messages that stand wrong in their feed."""

from __future__ import annotations

from collections.abc import Iterator

from market_pipeline.books.record import RebuildRecord
from market_pipeline.quality.figures.book import AppliedOrderFigures
from market_pipeline.quality.findings import Finding, Measured
from market_pipeline.quality.words import time_text
from market_pipeline.stages.validation.context import InstrumentDay

__all__ = ["measure_ordering"]


def measure_ordering(day: InstrumentDay) -> Measured:
    """What was not applied, and which numbers were not believed, with the first place of each."""
    record = day.record
    figures = AppliedOrderFigures.taken_from(record, sequence_restarts=record.restarts)
    return Measured((figures,), list(_findings(record)))


def _findings(record: RebuildRecord) -> Iterator[Finding]:
    """The first place of each kind: what counts it, where it is, what would have been right."""
    for counts, at_ns, number, expected, note in (
        (
            (record.stale_messages, record.repeated_messages, record.late_messages),
            record.first_old_ns,
            record.first_old_sequence_number,
            "a number above that of the message before",
            "The first message that stands behind later ones; it changes nothing that they set.",
        ),
        (
            (record.restarts,),
            record.first_restart_ns,
            None,
            "a number above that of the message before",
            "From this message on the sequence numbers begin anew.",
        ),
        (
            (record.split_messages,),
            record.first_split_ns,
            None,
            "all rows of a message under one receipt time",
            "The first message of which the next one has the number and the exchange's time.",
        ),
        (
            (record.bad_sequences,),
            record.first_bad_sequence_ns,
            None,
            "a number between those of the messages around it",
            "The first message whose sequence number the messages around it contradict.",
        ),
    ):
        if at_ns and any(counts):
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
