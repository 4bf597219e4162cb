"""Reads the intervals that stood against an instrument's book, and the evidence of some of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from market_pipeline.books.evidence import CAUSES, UNVERIFIED
from market_pipeline.books.flags import BookFlag
from market_pipeline.quality.findings import Finding
from market_pipeline.quality.measures.crossed import BookSpans
from market_pipeline.stages.published_rows import read_rows
from market_pipeline.stages.validation.context import InstrumentDay

__all__ = ["read_spans", "with_evidence"]

_BATCH_ROWS = 1 << 17
_CAUSE_OF_CHECK = {"crossed": BookFlag.CROSSED.name, "gap": BookFlag.GAP.name}


def read_spans(day: InstrumentDay) -> BookSpans:
    """The published intervals of a day that take time: all but those of single messages.

    A book that flickers crossed has a million: each takes 17 bytes.
    """
    further = [BookFlag.LOCKED.name, BookFlag.UNCONFIRMED_DEPTH.name, CAUSES[UNVERIFIED]]
    takes_time = pl.col("invalidates") | pl.col("cause").is_in(further)
    parts = [
        rows.filter(takes_time).select(
            pl.col("cause").replace_strict(CAUSES, range(len(CAUSES)), return_dtype=pl.Int8),
            "start_ns",
            "end_ns",
        )
        for rows in read_rows(
            day.books.intervals,
            day.instrument,
            ["cause", "start_ns", "end_ns", "invalidates"],
            _BATCH_ROWS,
        )
    ]
    if not parts:
        none = np.empty(0, np.int64)
        return BookSpans(none.astype(np.int8), none, none)
    spans = pl.concat(parts, rechunk=True)
    return BookSpans(*(spans[name].to_numpy() for name in ("cause", "start_ns", "end_ns")))


def with_evidence(findings: list[Finding], day: InstrumentDay) -> list[Finding]:
    """The findings with the message and the evidence of their interval, where they name a span of
    the book and no message.
    """
    wanted = {
        (_CAUSE_OF_CHECK[finding.check], finding.ts_receipt_ns)
        for finding in findings
        if _is_span(finding)
    }
    if not wanted:
        return findings
    causes, starts_ns = ({key[part] for key in wanted} for part in (0, 1))
    rows = (
        day.books.intervals.of(day.instrument.id)
        .filter(
            pl.col("cause").is_in(causes)
            & pl.col("start_ns").is_in(starts_ns)
            & pl.col("invalidates")
        )
        .select("cause", "start_ns", "start_sequence_number", "evidence")
        .collect()
    )
    known = {(cause, start_ns): found for cause, start_ns, *found in rows.iter_rows()}

    def located(finding: Finding) -> Finding:
        found = known.get((_CAUSE_OF_CHECK.get(finding.check), finding.ts_receipt_ns))
        if found is None or not _is_span(finding):
            return finding
        return replace(finding, sequence_number=found[0], note=found[1])

    return [located(finding) for finding in findings]


def _is_span(finding: Finding) -> bool:
    return finding.check in _CAUSE_OF_CHECK and finding.sequence_number is None
