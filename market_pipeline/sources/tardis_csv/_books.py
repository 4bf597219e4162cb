"""The files `incremental_book_L2` and `book_snapshot_25`: messages, and snapshots among them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from market_pipeline.errors import LakeFileError
from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch
from market_pipeline.sources.memory_limits import MAX_MESSAGE_ROWS
from market_pipeline.sources.raw_writer import RawWriter
from market_pipeline.sources.tardis_csv._top import TopRows, top_batch
from market_pipeline.sources.tardis_csv.reading import (
    BOOK_25,
    INCREMENTAL,
    BoolArray,
    Part,
    Whose,
    read_parts,
)

__all__ = ["convert_books", "convert_lone_snapshots"]

_NO_LIMIT = 2**63 - 1

_FloatArray = NDArray[np.float64]


def convert_books(out: RawWriter, incremental: Path, book: Path | None, whose: Whose) -> None:
    """Gives messages and snapshots of an incremental file, and the rows of `book_snapshot_25`.

    Raises:
        MarketPipelineError: See `read_parts`; a DomainError also for a side, price or amount
            outside its domain.
    """
    messages = _Messages(out, TopRows(book, whose, out) if book is not None else None)
    for part in read_parts(incremental, INCREMENTAL, whose):
        messages.take(part)
    messages.end()


def convert_lone_snapshots(out: RawWriter, book: Path, whose: Whose) -> None:
    """Without an incremental file the snapshots are all there is, numbered from 1.

    Raises:
        MarketPipelineError: See `read_parts`.
    """
    for part in read_parts(book, BOOK_25, whose):
        rows = np.arange(part.ts_receipt_ns.size)
        out.snapshots(top_batch(part, rows, part.first_row + rows + 1))


@dataclass(frozen=True, slots=True)
class _BlockPart:
    """Consecutive rows of a block of snapshot rows; the number of its row of `book`, its times."""

    number: int
    ts_origin_ns: int
    ts_receipt_ns: int
    file: Path
    is_bid: BoolArray
    price: _FloatArray
    size: _FloatArray


class _Messages:
    """Numbers the messages of an incremental file, and puts both kinds of snapshots among them.

    A block of snapshot rows takes two numbers: one for the row of `book`, which stands before the
    block's own message and replaces the book, and one for the message.
    """

    def __init__(self, out: RawWriter, top: TopRows | None) -> None:
        self._out = out
        self._top = top
        self._number = 0
        self._last: tuple[int, bool] | None = None
        self._block: list[_BlockPart] = []

    def take(self, part: Part) -> None:
        """Converts the next rows."""
        receipt, is_snapshot = part.ts_receipt_ns, part.arrays["is_snapshot"].astype(np.bool_)
        is_bid = part.words["side"].are("bid")
        part.refuse(~(is_bid | part.words["side"].are("ask")), "side", "bid or ask")
        price, size = part.arrays["price"], part.arrays["amount"]
        part.refuse(~((price > 0) & np.isfinite(price)), "price", "a finite number above 0")
        part.refuse(~((size >= 0) & np.isfinite(size)), "amount", "a finite number, at least 0")

        last_receipt, was_snapshot = self._last or (int(receipt[0]) - 1, False)
        before = np.concatenate((np.array([was_snapshot], np.bool_), is_snapshot[:-1]))
        begins_block = is_snapshot & ~before
        begins = (np.diff(receipt, prepend=last_receipt) != 0) | (is_snapshot != before)
        number = self._number + np.cumsum(begins.astype(np.int64) + begins_block)
        blocks = np.flatnonzero(begins_block)
        self._out.deltas(
            DeltaBatch(
                file=part.file,
                first_row=part.first_row,
                ts_origin_ns=part.ts_origin_ns,
                ts_receipt_ns=receipt,
                sequence_number=number,
                is_bid=is_bid,
                price=price,
                size=size,
                # The book of the connection before it is to be discarded, if there was one.
                recovered_rows=blocks[blocks + part.first_row > 0],
            )
        )
        if self._top is not None:
            # A message is complete when the next one begins, be it in another part.
            ends = np.flatnonzero(begins[1:])
            times, numbers = receipt[ends], number[ends]
            if begins[0] and self._last is not None:
                times = np.insert(times, 0, last_receipt)
                numbers = np.insert(numbers, 0, self._number)
            self._top.know(times, numbers)
        for start, end in _runs(is_snapshot):
            if begins_block[start]:
                self._finish_block()
            self._block.append(
                _BlockPart(
                    number=int(number[start]) - 1,
                    ts_origin_ns=int(part.ts_origin_ns[start]),
                    ts_receipt_ns=int(receipt[start]),
                    file=part.file,
                    is_bid=is_bid[start:end],
                    price=price[start:end],
                    size=size[start:end],
                )
            )
            self._refuse_long_block()
        if not is_snapshot[-1]:
            self._finish_block()
        self._number, self._last = int(number[-1]), (int(receipt[-1]), bool(is_snapshot[-1]))
        if self._top is not None:
            self._top.write_below(self._block[0].number if self._block else _NO_LIMIT)

    def end(self) -> None:
        """Converts what waited for further rows."""
        self._finish_block()
        if self._top is not None:
            if self._last is not None:
                self._top.know(np.array([self._last[0]]), np.array([self._number]))
            self._top.write_below(_NO_LIMIT, is_last=True)

    def _refuse_long_block(self) -> None:
        """Refuses more levels than any book has: a block is held until its end."""
        rows = sum(each.price.size for each in self._block)
        if rows > MAX_MESSAGE_ROWS:
            raise LakeFileError(
                "A block of snapshot rows does not end",
                next_step="Fetch the file from Tardis again, or report it to the vendor.",
                file=self._block[0].file,
                expected=f"at most {MAX_MESSAGE_ROWS} rows in a block",
                found=f"{rows} rows and more",
            )

    def _finish_block(self) -> None:
        """Writes the row of `book` of the block that has ended, if one was under way."""
        if not self._block:
            return
        block, self._block = self._block, []
        first = block[0]
        if self._top is not None:
            self._top.write_below(first.number)
        is_bid = np.concatenate([each.is_bid for each in block])
        price = np.concatenate([each.price for each in block])
        size = np.concatenate([each.size for each in block])
        bid_price, bid_size = _best_first(price[is_bid], size[is_bid], descending=True)
        ask_price, ask_size = _best_first(price[~is_bid], size[~is_bid], descending=False)
        depth = max(1, bid_price.size, ask_price.size)
        self._out.snapshots(
            SnapshotBatch(
                file=first.file,
                first_row=0,
                ts_receipt_ns=np.array([first.ts_receipt_ns]),
                sequence_number=np.array([first.number]),
                bid_price=_one_row(bid_price, depth),
                bid_size=_one_row(bid_size, depth),
                ask_price=_one_row(ask_price, depth),
                ask_size=_one_row(ask_size, depth),
                ts_origin_ns=np.array([first.ts_origin_ns]),
            )
        )


def _best_first(
    price: _FloatArray, size: _FloatArray, *, descending: bool
) -> tuple[_FloatArray, _FloatArray]:
    """Levels that are there, best first; of a price that occurs twice the later row counts."""
    _, from_behind = np.unique(price[::-1], return_index=True)
    at = price.size - 1 - from_behind
    at = at[size[at] > 0]
    at = at[::-1] if descending else at
    return price[at], size[at]


def _one_row(column: _FloatArray, width: int) -> _FloatArray:
    row = np.zeros((1, width))
    row[0, : column.size] = column
    return row


def _runs(marked: BoolArray) -> list[tuple[int, int]]:
    """The runs of marked rows as (first, behind the last)."""
    edges = np.flatnonzero(np.diff(marked.astype(np.int8), prepend=0, append=0)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))
