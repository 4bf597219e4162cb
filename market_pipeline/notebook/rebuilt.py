"""What `rebuild` makes of raw rows, and how."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, get_args

import polars as pl
import pyarrow as pa

from market_pipeline.books.arrow import BookArrow
from market_pipeline.books.intervals import Intervals
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.rebuild import Block, Rebuild, RebuildOptions
from market_pipeline.books.rebuild_figures import rebuild_figures
from market_pipeline.books.scale import Scale
from market_pipeline.books.state import BboRows, DepthRows, Repairs
from market_pipeline.books.tables import BBO, DEPTH, IDENTITY, INTERVALS
from market_pipeline.config.instruments import Instrument, Policies
from market_pipeline.errors import DomainError
from market_pipeline.notebook._raw_scan import RawScan, scan_raw
from market_pipeline.notebook.book import Book
from market_pipeline.notebook.feeds import Feeds
from market_pipeline.sources.binance_capture import MEANING, Findings
from market_pipeline.warehouse.tables import Table

__all__ = ["RebuiltBook", "rebuild_options", "rebuilt_book"]

# Raw rows do not say whose they are, so the identity columns are left out of the frames.
_NOBODY = Instrument(venue="NOBODY", symbol="NOBODY", source="crypto_lake")
_SECONDS_PER_CENTURY = 100 * 366 * 86_400


@dataclass(frozen=True, slots=True, eq=False)
class RebuiltBook:
    """What `rebuild` made of raw rows.

    Attributes:
        bbo: One row per message with the columns of `books.bbo` without exchange, symbol and dt:
            `ts_origin_ns`, `ts_receipt_ns`, `sequence_number` (int64), best prices and sizes
            (float64) and the same in ticks and lots (int64), `flags` (uint16, bits of `BookFlag`).
            A side without a level is null.
        depth: The top 20 levels a side, with the columns of `books.depth` without those three; no
            row unless `depth_every` was given.
        intervals: From when to when a flag is set, what ended it and what shows it, with the
            columns of `books.intervals` without those three.
        book: The full book after the last message.
        figures: What the rebuild counted and located, by the names of `books.rebuilds`, and
            `sequence_backwards`: messages, resyncs, …
        findings: What a capture has wrong, where and what that means: `kind`, `file`, `line`
            (from 1), `expected`, `found`, `meaning`; the first hundred of each kind. No row for
            other sources.
        tick, lot: The steps used, given or inferred.
    """

    bbo: pl.DataFrame = field(repr=False)
    depth: pl.DataFrame = field(repr=False)
    intervals: pl.DataFrame = field(repr=False)
    book: Book
    figures: dict[str, Any] = field(repr=False)
    findings: pl.DataFrame = field(repr=False)
    tick: Decimal
    lot: Decimal


def rebuilt_book(
    feeds: Feeds,
    tick: Decimal | str | float,
    lot: Decimal | str | float,
    options: RebuildOptions,
) -> RebuiltBook:
    """Rebuilds the book of the feeds; see `rebuild`."""
    options = replace(options, ids_prove=feeds.ids_prove)
    infers = "infer" in (tick, lot)
    known = scan_raw(feeds.deltas(Findings()), feeds.trade_times, infer_steps=infers)
    # Rows that only remove levels show no lot; any step then represents their sizes, all 0.
    price_scale = _scale("tick", tick, known.price_scale or Scale.of(Decimal(1)))
    size_scale = _scale("lot", lot, known.size_scale or Scale.of(Decimal(1)))
    return _rebuilt(feeds, known, options, price_scale, size_scale)


def _rebuilt(
    feeds: Feeds, known: RawScan, options: RebuildOptions, price_scale: Scale, size_scale: Scale
) -> RebuiltBook:
    """One pass over the feeds, of which the whole is known."""
    passed = Rebuild(price_scale, size_scale, options, gap_rows=known.gap_rows)
    intervals = Intervals(_NOBODY, known.day, price_scale, options.resync, known.silences)
    arrow = BookArrow(_NOBODY, known.day, price_scale, size_scale)
    of_deltas, of_snapshots = Findings(), Findings()
    blocks = passed.blocks(feeds.deltas(of_deltas), feeds.snapshots(of_snapshots))
    bbo, depth, spans, closing = _collected(blocks, arrow, intervals)
    return RebuiltBook(
        bbo=bbo.frame(),
        depth=depth.frame(),
        intervals=spans.frame(),
        book=Book.of_keyframe(closing, price_scale, size_scale),
        figures={
            **rebuild_figures(passed).as_record(),
            "sequence_backwards": passed.figures["sequence_backwards"],
        },
        findings=_findings(of_deltas, of_snapshots),
        tick=price_scale.step,
        lot=size_scale.step,
    )


def _collected(
    blocks: Iterable[Block], arrow: BookArrow, intervals: Intervals
) -> tuple[_Rows, _Rows, _Rows, Keyframe]:
    """The rows of the book, of its depth and of its intervals, and the closing book."""
    bbo, depth, spans = _Rows(BBO), _Rows(DEPTH), _Rows(INTERVALS)
    for block in blocks:
        if isinstance(block, BboRows):
            bbo.add([arrow.bbo(block)])
            spans.add(intervals.add_rows(block))
        elif isinstance(block, DepthRows):
            depth.add([arrow.depth(block)])
        elif isinstance(block, Repairs):
            intervals.add_repairs(block)
        elif isinstance(block, Keyframe):
            closing = block
    spans.add(intervals.finish())
    return bbo, depth, spans, closing


class _Rows:
    """Collects the Arrow batches of a table as one frame without the identity columns."""

    def __init__(self, table: Table) -> None:
        identity = {column.name for column in IDENTITY}
        self._names = [name for name in table.arrow_schema.names if name not in identity]
        self._schema = pa.schema([table.arrow_schema.field(name) for name in self._names])
        self._table = table
        self._batches: list[pa.RecordBatch] = []

    def add(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Takes the next rows of the table."""
        self._batches += [batch.select(self._names) for batch in batches]

    def frame(self) -> pl.DataFrame:
        """All rows so far."""
        rows = pl.DataFrame(pa.Table.from_batches(self._batches, schema=self._schema))
        return self._table.with_computed(rows.lazy()).collect()


def _findings(*readers: Findings) -> pl.DataFrame:
    # Each reader tells of the damaged lines it met, so the same one may be reported twice.
    found = dict.fromkeys(finding for reader in readers for finding in reader.located)
    columns = ("kind", "file", "line", "expected", "found", "meaning")
    rows = [
        (str(each.kind), str(each.file), each.line, each.expected, each.found, MEANING[each.kind])
        for each in found
    ]
    schema = dict.fromkeys(columns, pl.String) | {"line": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _scale(name: str, given: Decimal | str | float, inferred: Scale) -> Scale:
    if given == "infer":
        return inferred
    try:
        return Scale.of(Decimal(str(given)))
    except (InvalidOperation, ValueError):
        raise _out_of_range(
            name, given, "a positive number with at most 15 decimals, or infer"
        ) from None


def rebuild_options(
    resync: Literal["never", "when_invalid", "always"],
    crossed: Literal["flag", "uncross", "resync"],
    crossed_resync_seconds: float,
    depth_every: int | Literal["message"] | None,
) -> RebuildOptions:
    """The options of a rebuild by the arguments of `rebuild`.

    Raises:
        DomainError: One is out of range.
    """
    for name, found in (("resync", resync), ("crossed", crossed)):
        known = get_args(Policies.model_fields[name].annotation)
        if found not in known:
            raise _out_of_range(name, found, f"one of {', '.join(known)}")
    if not 0 <= crossed_resync_seconds < _SECONDS_PER_CENTURY:
        raise _out_of_range("crossed_resync_seconds", crossed_resync_seconds, "seconds from 0 on")
    policies = Policies(
        resync=resync, crossed=crossed, crossed_resync_seconds=float(crossed_resync_seconds)
    )
    interval_ms = _depth_interval_ms(depth_every)
    return RebuildOptions.of(policies, depth_interval_ms=interval_ms, keyframe_seconds=0)


def _depth_interval_ms(depth_every: int | Literal["message"] | None) -> int | None:
    if depth_every is None:
        return None
    if depth_every == "message":
        return 0
    if isinstance(depth_every, int) and depth_every > 0:
        return depth_every
    raise _out_of_range("depth_every", depth_every, "message, or milliseconds above 0")


def _out_of_range(name: str, found: object, expected: str) -> DomainError:
    return DomainError(
        f"`{name}` is out of range",
        next_step="Correct the argument.",
        column=name,
        expected=expected,
        found=repr(found),
    )
