from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.books.arrow import CHECKPOINT_FORMAT, BookArrow, checksum
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.scale import Scale
from market_pipeline.books.tables import CHECKPOINTS
from market_pipeline.config.instruments import Instrument
from market_pipeline_tests.naive.canonical import canonical_book

TICK, LOT = Scale(5, 2), Scale(1, 3)
LISTS = ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots")


def keyframe(bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> Keyframe:
    columns = [
        np.array([level[at] for level in side], np.int64) for side in (bids, asks) for at in (0, 1)
    ]
    return Keyframe("closing", 1, 2, 3, 4, 0, *columns, 90, 110)


BOOK = keyframe([(100, 5), (99, 7)], [(101, 6)])


class TestChecksum:
    levels = st.lists(st.tuples(st.integers(1, 2**62), st.integers(1, 2**62)), max_size=5)

    @given(levels, levels)
    def test_is_the_documented_formula(self, bids, asks):
        """One line of text, then the four columns as little-endian 64-bit integers."""
        text = f"0.05 0.001 {len(bids)} {len(asks)}\n".encode()
        numbers = [level[at] for side in (bids, asks) for at in (0, 1) for level in side]
        expected = hashlib.sha256(text + struct.pack(f"<{len(numbers)}q", *numbers)).hexdigest()
        assert checksum(keyframe(bids, asks), TICK, LOT) == expected

    @pytest.mark.parametrize("name", LISTS)
    def test_any_level_changes_it(self, name):
        """Another price or size on either side is another book."""
        other = replace(BOOK, **{name: getattr(BOOK, name) + 1})
        assert checksum(other, TICK, LOT) != checksum(BOOK, TICK, LOT)

    def test_tick_and_lot_change_it(self):
        """The same integers in other steps are another book."""
        sums = {
            checksum(BOOK, tick, lot)
            for tick, lot in ((TICK, LOT), (LOT, LOT), (TICK, TICK), (LOT, TICK))
        }
        assert len(sums) == 4

    def test_a_level_on_the_other_side_changes_it(self):
        """The number of levels a side is part of it, so the same bytes may not be cut elsewhere."""
        one = keyframe([(1, 1)], [])
        other = keyframe([], [(1, 1)])
        assert checksum(one, TICK, LOT) != checksum(other, TICK, LOT)


class TestCheckpoint:
    def test_row(self):
        """A checkpoint row holds the book, its steps exactly, its checksum and its format."""
        of = Instrument(venue="BINANCE", symbol="BTC-USDT", source="crypto_lake")
        rows = BookArrow(of, date(2024, 8, 8), TICK, LOT).checkpoints([BOOK])
        (row,) = rows.to_pylist()
        assert rows.schema == CHECKPOINTS.arrow_schema
        assert {name: row[name] for name in LISTS} == {
            name: getattr(BOOK, name).tolist() for name in LISTS
        }
        assert {
            "tick": "0.05",
            "lot": "0.001",
            "bid_horizon_ticks": 90,
            "checksum": checksum(BOOK, TICK, LOT),
            "format_version": CHECKPOINT_FORMAT,
        }.items() <= row.items()

    def test_as_text(self):
        """One line a level, bids before asks, best first, without trailing zeros."""
        assert canonical_book(BOOK, TICK, LOT) == "B 5 0.005\nB 4.95 0.007\nA 5.05 0.006"
