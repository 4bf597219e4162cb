"""Blocks of book rows as Arrow batches in the columns of the published tables."""

from __future__ import annotations

import hashlib
from datetime import date

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from market_pipeline.books.rebuild import Keyframe
from market_pipeline.books.scale import Scale
from market_pipeline.books.state import DEPTH_LEVELS, BboRows, DepthRows
from market_pipeline.books.tables import BBO, CHECKPOINTS, DEPTH
from market_pipeline.instruments import Instrument

__all__ = ["BookArrow", "canonical_book"]

CHECKPOINT_FORMAT = 1


def canonical_book(frame: Keyframe, price_scale: Scale, size_scale: Scale) -> str:
    """The book as text: one line per level, best first, bids then asks, no trailing zeros."""
    tick, lot = price_scale.step, size_scale.step
    lines = []
    for mark, prices, sizes in (
        ("B", frame.bid_price_ticks, frame.bid_size_lots),
        ("A", frame.ask_price_ticks, frame.ask_size_lots),
    ):
        for price, size in zip(prices.tolist(), sizes.tolist(), strict=True):
            value = (price * tick).normalize()
            amount = (size * lot).normalize()
            lines.append(f"{mark} {value:f} {amount:f}")
    return "\n".join(lines)


class BookArrow:
    """Turns the blocks of one instrument's day into Arrow, identity columns included."""

    def __init__(
        self, instrument: Instrument, day: date, price_scale: Scale, size_scale: Scale
    ) -> None:
        self._identity = (instrument.venue, instrument.symbol, day)
        self._price_scale = price_scale
        self._size_scale = size_scale

    def bbo(self, rows: BboRows) -> pa.RecordBatch:
        """Rows of `books.bbo`."""
        columns = [*self._constants(rows.flags.size), *_event(rows)]
        sides = []
        for price, size in (
            (rows.bid_price_ticks, rows.bid_size_lots),
            (rows.ask_price_ticks, rows.ask_size_lots),
        ):
            empty = size == 0
            columns += [pa.array(price, mask=empty), pa.array(size, mask=empty)]
            sides += self._floats(price, size)
        columns += [*sides, pa.array(rows.flags)]
        return pa.RecordBatch.from_arrays(columns, schema=BBO.arrow_schema)

    def depth(self, rows: DepthRows) -> pa.RecordBatch:
        """Rows of `books.depth`."""
        columns = [*self._constants(rows.flags.size), *_event(rows)]
        for price, size in (
            (rows.bid_price_ticks, rows.bid_size_lots),
            (rows.ask_price_ticks, rows.ask_size_lots),
        ):
            for level in range(DEPTH_LEVELS):
                columns += self._floats(price[:, level], size[:, level])
        columns.append(pa.array(rows.flags))
        return pa.RecordBatch.from_arrays(columns, schema=DEPTH.arrow_schema)

    def checkpoint(self, frame: Keyframe) -> pa.RecordBatch:
        """One row of `books.checkpoints`."""
        text = canonical_book(frame, self._price_scale, self._size_scale)
        exchange, symbol, day = self._identity
        row = {
            "exchange": exchange,
            "symbol": symbol,
            "dt": day,
            "kind": frame.kind,
            "ts_origin_ns": frame.ts_origin_ns,
            "ts_receipt_ns": frame.ts_receipt_ns,
            "sequence_number": frame.sequence_number,
            "messages": frame.messages,
            "tick": format(self._price_scale.step, "f"),
            "lot": format(self._size_scale.step, "f"),
            "bid_price_ticks": frame.bid_price_ticks,
            "bid_size_lots": frame.bid_size_lots,
            "ask_price_ticks": frame.ask_price_ticks,
            "ask_size_lots": frame.ask_size_lots,
            "bid_horizon_ticks": frame.bid_horizon_ticks,
            "ask_horizon_ticks": frame.ask_horizon_ticks,
            "checksum": hashlib.sha256(text.encode()).hexdigest(),
            "format_version": CHECKPOINT_FORMAT,
        }
        return pa.RecordBatch.from_pylist([row], schema=CHECKPOINTS.arrow_schema)

    def _constants(self, rows: int) -> list[pa.Array]:
        return [
            pa.repeat(pa.scalar(value, type=field.type), rows)
            for value, field in zip(self._identity, BBO.arrow_schema, strict=False)
        ]

    def _floats(self, price: NDArray[np.int64], size: NDArray[np.int64]) -> list[pa.Array]:
        empty = size == 0
        return [
            pa.array(self._price_scale.to_floats(price), mask=empty),
            pa.array(self._size_scale.to_floats(size), mask=empty),
        ]


def _event(rows: BboRows | DepthRows) -> list[pa.Array]:
    return [
        pa.array(rows.ts_origin_ns),
        pa.array(rows.ts_receipt_ns),
        pa.array(rows.sequence_number),
    ]
