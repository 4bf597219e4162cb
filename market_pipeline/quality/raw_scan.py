"""Everything that is counted over the rows of one raw table of a day, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.boundaries import FirstRows, MessageStarts
from market_pipeline.errors import LakeFileError
from market_pipeline.mapped import ColumnArray
from market_pipeline.quality.intervals import day_bounds_ns
from market_pipeline.quality.measures.domain import EXPECTED, DomainCount
from market_pipeline.quality.measures.ordering import FOLLOWING, Disorder, MessageOrder
from market_pipeline.quality.measures.outside_day import OutsideDay
from market_pipeline.quality.measures.price_levels import PriceLevels
from market_pipeline.quality.measures.tick_inference import LATE_ROWS, StepScan
from market_pipeline.quality.profile import OUTSIDE_DAY, RawPlace, place_columns
from market_pipeline.sources.crypto_lake import (
    DELTAS,
    SNAPSHOT_LEVELS,
    SNAPSHOTS,
    TRADES,
    RawBatch,
    RawTable,
)
from market_pipeline.sources.memory_limits import MAX_MESSAGE_ROWS, MAX_MESSAGES, MAX_TRADES

__all__ = ["RawTableScan"]

_BATCH_ROWS = 1 << 18
_SNAPSHOT_BATCH_ROWS = 1 << 15

# What each kind of disorder is called in `lake.profiles`, and the column in which it shows.
_DISORDER = {
    Disorder.UNORDERED: ("unordered_messages", "receipt_timestamp"),
    Disorder.UNORDERED_ORIGIN: ("unordered_origins", "timestamp"),
    Disorder.BACKWARD: ("sequence_backwards", "sequence_number"),
    Disorder.DOUBLE: ("duplicate_messages", "sequence_number"),
}


def _levels(part: str) -> list[str]:
    return [f"{side}_{level}_{part}" for level in range(SNAPSHOT_LEVELS) for side in ("bid", "ask")]


_PRICES = {DELTAS.name: ["price"], SNAPSHOTS.name: _levels("price"), TRADES.name: ["price"]}
_SIZES = {DELTAS.name: ["size"], SNAPSHOTS.name: _levels("size"), TRADES.name: ["amount"]}


class RawTableScan:
    """What is found in a raw table of a day.

    Args:
        lake: The folder that places name files below.
        table: Which table.
        day: The UTC day that its rows should be of.
        tolerance_ns: A time further than this after the day's end is in the future.
        note: Called with the messages of deltas as they begin.

    Attributes:
        batch_rows: Rows to be read at a time.
        is_timed: Whether each row so far has its times and number, without which nobody can say
            where messages begin.
    """

    def __init__(
        self,
        lake: Path,
        table: RawTable,
        day: date,
        tolerance_ns: int,
        note: Callable[[FirstRows], None] = lambda _: None,
    ) -> None:
        start_ns, end_ns = day_bounds_ns(day)
        self._lake = lake
        self._table = table
        self._rows = 0
        self._ends: list[tuple[int, int]] = []
        self._domain = DomainCount(table, start_ns, end_ns, tolerance_ns)
        self._order = MessageOrder(start_ns)
        self._prices, self._sizes = StepScan(), StepScan()
        self._tick_places: dict[int, RawPlace] = {}
        self._sequence = "id" if table is TRADES else "sequence_number"
        self._outside = OutsideDay(start_ns, end_ns, self._sequence)
        self._day = day
        self._levels = PriceLevels(start_ns)
        self._names: dict[Path, dict[str, str]] = {}
        self._room = np.empty((0, 0), np.float64)
        self._starts = MessageStarts() if table is DELTAS else None
        self._note = note
        self._last_message_row = self._ordered_rows = 0
        self.is_timed = True
        self.batch_rows = _SNAPSHOT_BATCH_ROWS if table is SNAPSHOTS else _BATCH_ROWS

    def add(self, batch: RawBatch) -> None:
        """Takes a batch of rows into account.

        Raises:
            LakeFileError: If the table has more messages, or rows in one, than any later stage can
                hold in memory.
        """
        arrays = batch.arrays
        count = len(arrays["timestamp"])
        self._rows += count
        self._names[batch.file] = batch.names
        self._domain.add(batch)
        self._outside.add(batch)
        self._levels.add(arrays["receipt_timestamp"], _price_of_each(batch, self._table))
        self._sizes.add(self._values(batch, _SIZES[self._table.name]))
        names = _PRICES[self._table.name]
        settled = self._prices.add(self._values(batch, names))
        if settled is not None:
            row, level = divmod(settled, len(names))
            place = self._tick_rests_on(batch, row, names[level])
            self._tick_places[self._prices.settled_rows] = place
        self._add_order(batch)
        name, most = ("trades", MAX_TRADES) if self._table is TRADES else ("messages", MAX_MESSAGES)
        if self._order.messages > most:
            raise _too_large(batch, f"{name} in a day", most)

    def _values(self, batch: RawBatch, names: Sequence[str]) -> NDArray[np.float64]:
        """The values of some columns, row after row; of several until they are asked for again."""
        if len(names) == 1:
            return np.asarray(batch.arrays[names[0]], np.float64)
        columns = [batch.arrays[name] for name in names]
        # Filled again and again: the pages of a new one took longer than to fill it.
        if self._room.shape[0] < columns[0].size:
            self._room = np.empty((columns[0].size, len(names)), np.float64)
        return np.stack(columns, axis=1, out=self._room[: columns[0].size]).ravel()

    def _add_order(self, batch: RawBatch) -> None:
        keys = ["timestamp", "receipt_timestamp", self._sequence]
        arrays = batch.arrays
        columns = [*(arrays[key] for key in keys), *self._content(arrays)]
        absent = [batch.nulls[key] for key in keys if key in batch.nulls]
        self.is_timed &= not absent
        rows = FOLLOWING
        if absent:
            # A row without a time or number stands nowhere, and is reported as a null.
            present = ~np.logical_or.reduce(absent)
            rows = np.flatnonzero(present) + batch.first_row
            columns = [column[present] for column in columns]
        origin, receipt, sequence, one, other, is_second_kind = columns
        if not sequence.size:
            return
        ends = [(int(receipt[at]), int(sequence[at])) for at in (0, -1)]
        self._ends = [self._ends[0] if self._ends else ends[0], ends[1]]
        if self._starts is None:
            messages = FirstRows(np.arange(sequence.size), origin, receipt, sequence)
        else:
            messages = self._starts.add(origin, receipt, sequence)
            self._note_messages(batch, messages, sequence.size)
            messages = messages._replace(row=messages.row - self._ordered_rows)
        self._ordered_rows += sequence.size
        place = batch.file, batch.first_row
        self._order.add(*place, messages, one, other, is_second_kind, rows)

    def _note_messages(self, batch: RawBatch, messages: FirstRows, rows: int) -> None:
        self._note(messages)
        end = self._ordered_rows + rows
        edges = np.concatenate(([self._last_message_row], messages.row, [end]))
        if np.diff(edges).max() > MAX_MESSAGE_ROWS:
            raise _too_large(batch, "rows in a message", MAX_MESSAGE_ROWS)
        self._last_message_row = int(edges[-2])

    def _content(self, arrays: Mapping[str, ColumnArray]) -> tuple[ColumnArray, ...]:
        """What makes two messages of one sequence number the same."""
        if self._table is DELTAS:
            return arrays["price"], arrays["size"], arrays["side_is_bid"]
        same = np.zeros(len(arrays["timestamp"]), np.bool_)
        if self._table is TRADES:
            none = np.zeros(same.size, np.int64)
            return none, none, same
        # A quiet market's snapshots differ in nothing but their times.
        return arrays["timestamp"], arrays["receipt_timestamp"], same

    def figures(self) -> dict[str, Any]:
        """The columns of `lake.profiles`, after the last batch."""
        self._order.finish()
        order = self._order
        found: dict[str, Any] = {
            "rows": self._rows,
            "messages": order.messages,
            "sequence_changes": order.sequence_changes,
            "disordered_per_hour": order.per_hour,
            **{kind.value: count for kind, count in self._domain.counts.items()},
            **{name: order.count(kind) for kind, (name, _) in _DISORDER.items()},
            "removals": self._domain.removals if self._table is DELTAS else None,
            **self._outside.figures(),
            **self._levels.figures(),
        }
        found["files_outside_day"] = [self._where(file) for file in found["files_outside_day"]]
        for position, end in zip(("first", "last"), self._ends, strict=False):
            found[f"{position}_ts_receipt_ns"], found[f"{position}_sequence_number"] = end
        for name, watch in (("tick", self._prices), ("lot", self._sizes)):
            if watch.seen is not None:
                rows = watch.seen.settled_rows * self._rows // watch.seen.rows
                found |= {f"{name}_seen": f"{watch.seen.step:f}", f"{name}_settled_rows": rows}
        is_late = (found.get("tick_settled_rows") or 0) > LATE_ROWS
        late = self._tick_places.get(self._prices.settled_rows) if is_late else None
        return found | place_columns([*self._places(), *([late] if late else [])])

    def _tick_rests_on(self, batch: RawBatch, row: int, column: str) -> RawPlace:
        """The price that made the tick as fine as it is."""
        coarser = self._prices.before
        return RawPlace(
            "tick_settled_rows",
            self._where(batch.file),
            batch.first_row + row,
            batch.names[column],
            repr(float(batch.arrays[column][row])),
            "any price" if coarser is None else f"a multiple of {coarser:f}",
            int(batch.arrays["receipt_timestamp"][row]),
            int(batch.arrays[self._sequence][row]),
        )

    def _where(self, file: Path) -> str:
        return file.relative_to(self._lake).as_posix()

    def _places(self) -> Iterator[RawPlace]:
        for places in self._domain.places.values():
            for kind, file, row, column, value, receipt_ns, sequence in places:
                where, expected = self._where(file), EXPECTED[kind]
                yield RawPlace(
                    kind.value, where, row, column, value, expected, receipt_ns, sequence
                )
        for file, row, column, receipt_ns, sequence in self._outside.places:
            yield RawPlace(
                OUTSIDE_DAY,
                self._where(file),
                row,
                column,
                str(receipt_ns),
                f"a receipt time of {self._day}",
                receipt_ns,
                sequence,
            )
        for place in self._order.places():
            name, column = _DISORDER[place.kind]
            if column == "sequence_number":
                column = self._sequence
            yield RawPlace(
                name,
                self._where(place.file),
                place.row,
                self._names[place.file][column],
                str(place.value),
                _expected(place.kind, place.before),
                place.ts_receipt_ns,
                place.sequence_number,
            )


def _too_large(batch: RawBatch, what: str, most: int) -> LakeFileError:
    return LakeFileError(
        "The file holds more than may be held in memory",
        next_step="Fetch the file from the vendor again, or report it; then rerun this day.",
        file=batch.file,
        row=batch.first_row,
        expected=f"at most {most} {what}",
        found="more, in the rows from here on",
    )


def _expected(kind: Disorder, before: int) -> str:
    return "no second one" if kind is Disorder.DOUBLE else f"at least {before}"


def _price_of_each(batch: RawBatch, table: RawTable) -> NDArray[np.float64]:
    """A price of each row: of a snapshot the mid, NaN where a side is empty."""
    if table is not SNAPSHOTS:
        return np.asarray(batch.arrays["price"], np.float64)
    bid, ask = (np.asarray(batch.arrays[f"{side}_0_price"], np.float64) for side in ("bid", "ask"))
    return np.where((bid > 0.0) & (ask > 0.0), bid / 2 + ask / 2, np.nan)
