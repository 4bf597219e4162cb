"""Blocks of book rows as Arrow batches in the columns of the published tables."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.scale import Scale
from market_pipeline.books.state import BboRows, DepthRows
from market_pipeline.books.tables import BBO, CHECKPOINTS, DEPTH
from market_pipeline.config.instruments import Instrument

__all__ = ["CHECKPOINT_FORMAT", "BookArrow", "checksum", "identity_columns"]

CHECKPOINT_FORMAT = 2


def checksum(frame: Keyframe, price_scale: Scale, size_scale: Scale) -> str:
    """SHA-256 over a line of tick, lot and levels a side, and the four arrays as little endians."""
    head = f"{price_scale.step:f} {size_scale.step:f} "
    head += f"{frame.bid_price_ticks.size} {frame.ask_price_ticks.size}\n"
    digest = hashlib.sha256(head.encode())
    for column in (
        frame.bid_price_ticks,
        frame.bid_size_lots,
        frame.ask_price_ticks,
        frame.ask_size_lots,
    ):
        digest.update(column.astype("<i8", copy=False).tobytes())
    return digest.hexdigest()


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
        columns = [*identity_columns(*self._identity, rows.flags.size), *_event(rows)]
        sides = []
        for price, size in (
            (rows.bid_price_ticks, rows.bid_size_lots),
            (rows.ask_price_ticks, rows.ask_size_lots),
        ):
            empty = _empty(size)
            columns += [pa.array(price, mask=empty), pa.array(size, mask=empty)]
            sides += self._floats(price, size, empty)
        names = BBO.arrow_schema.names
        trust = [pa.array(rows.flags), pa.array(rows.verified)]
        return pa.RecordBatch.from_arrays([*columns, *sides, *trust], names=names)

    def depth(self, rows: DepthRows) -> pa.RecordBatch:
        """Rows of `books.depth`."""
        count = rows.flags.size
        columns = [*identity_columns(*self._identity, count), *_event(rows), pa.array(rows.flags)]
        for scale in (self._price_scale, self._size_scale):
            for constant in (scale.coefficient, 10**scale.decimals):
                columns.append(pa.array(np.full(count, constant, np.int64)))
        for prices, sizes in (
            (rows.bid_price_ticks, rows.bid_size_lots),
            (rows.ask_price_ticks, rows.ask_size_lots),
        ):
            # A level in one piece, as blocks of a day have it, is not copied.
            for price, size in zip(prices.T, sizes.T, strict=True):
                empty = _empty(size)
                columns += [pa.array(price, mask=empty), pa.array(size, mask=empty)]
        columns += [
            pa.array(rows.verified),
            pa.array(rows.bid_levels_confirmed),
            pa.array(rows.ask_levels_confirmed),
        ]
        return pa.RecordBatch.from_arrays(columns, names=DEPTH.arrow_schema.names)

    def checkpoints(self, frames: Sequence[Keyframe]) -> pa.RecordBatch:
        """Rows of `books.checkpoints`."""
        exchange, symbol, day = self._identity
        same = {
            "exchange": exchange,
            "symbol": symbol,
            "dt": day,
            "tick": format(self._price_scale.step, "f"),
            "lot": format(self._size_scale.step, "f"),
            "format_version": CHECKPOINT_FORMAT,
        }
        columns = []
        for field in CHECKPOINTS.arrow_schema:
            if field.name in same:
                columns.append(pa.repeat(pa.scalar(same[field.name], field.type), len(frames)))
                continue
            if field.name == "checksum":
                scales = self._price_scale, self._size_scale
                columns.append(pa.array([checksum(frame, *scales) for frame in frames]))
                continue
            of_frames = [getattr(each, field.name) for each in frames]
            if pa.types.is_list(field.type):
                # Made of the arrays as they are: a day has millions of levels in its checkpoints.
                ends = np.cumsum([0, *(each.size for each in of_frames)], dtype=np.int32)
                columns.append(pa.ListArray.from_arrays(ends, pa.array(np.concatenate(of_frames))))
            else:
                columns.append(pa.array(of_frames, type=field.type))
        return pa.RecordBatch.from_arrays(columns, schema=CHECKPOINTS.arrow_schema)

    def _floats(
        self, price: NDArray[np.int64], size: NDArray[np.int64], empty: NDArray[np.bool_] | None
    ) -> list[pa.Array]:
        return [
            pa.array(self._price_scale.to_floats(price), mask=empty),
            pa.array(self._size_scale.to_floats(size), mask=empty),
        ]


def identity_columns(exchange: str, symbol: str, day: date, rows: int) -> list[pa.Array]:
    """The columns that say what rows are of: exchange and symbol, as dictionaries, and dt."""
    position = pa.array(np.zeros(rows, np.int32))
    return [
        pa.DictionaryArray.from_arrays(position, [exchange]),
        pa.DictionaryArray.from_arrays(position, [symbol]),
        pa.repeat(pa.scalar(day), rows),
    ]


def _empty(size: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """Where a side has no level; None if it has one everywhere, which Arrow handles faster."""
    return None if size.all() else size == 0


def _event(rows: BboRows | DepthRows) -> list[pa.Array]:
    return [
        pa.array(rows.ts_origin_ns),
        pa.array(rows.ts_receipt_ns),
        pa.array(rows.sequence_number),
    ]
