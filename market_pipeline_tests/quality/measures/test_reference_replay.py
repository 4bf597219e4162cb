from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pytest

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.scale import Scale
from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.reference_replay import check_reference_replay
from market_pipeline.quality.evaluate import evaluate
from market_pipeline.quality.measures.reference_replay import (
    BBO_COLUMNS,
    DEPTH_COLUMNS,
    Comparison,
    compare,
)
from market_pipeline.quality.reference.book import PlainBook, PlainRow, plain_rebuild
from market_pipeline.quality.reference.feed import Row, messages_of
from market_pipeline_tests.quality.factory import a_row

TICK, LOT = Scale(1, 1), Scale(1, 3)
ROWS = [
    row
    for k in range(1, 6)
    for row in (Row(10 * k, k, True, 1000 + k, k, 10 * k - 1), Row(10 * k, k, False, 1010, 7 + k))
]


def bbo(**changes: tuple[int, int | None]) -> pl.DataFrame:
    """What a rebuild of `ROWS` publishes, with one value of some columns changed."""
    rows = list(plain_rebuild(PlainBook(), messages_of(ROWS), []))
    columns = {name: [getattr(row, name) for row in rows] for name in BBO_COLUMNS}
    for name, (at, value) in changes.items():
        columns[name][at] = value
    return pl.DataFrame(columns)


def depth(*messages: int, **changes: int | None) -> pl.DataFrame:
    """Depth rows after some of the messages; `changes` are of the last of them."""
    book = PlainBook()
    made = []
    for at, row in enumerate(plain_rebuild(book, messages_of(ROWS), [])):
        if at in messages:
            values: dict[str, int | None] = dict.fromkeys(DEPTH_COLUMNS)
            values |= {name: getattr(row, name) for name in DEPTH_COLUMNS[:4]}
            for side, levels in zip(("bid", "ask"), book.top(20), strict=True):
                for level, (price, size) in enumerate(levels):
                    values[f"{side}_{level}_price_ticks"] = price
                    values[f"{side}_{level}_size_lots"] = size
            made.append(values)
    made[-1:] = [each | changes for each in made[-1:]]
    return pl.DataFrame(made, schema=dict.fromkeys(DEPTH_COLUMNS, pl.Int64))


def compared(
    published: pl.DataFrame, depths: pl.DataFrame, rows: list[Row] = ROWS, most_work: int = 1_000
) -> Comparison:
    book = PlainBook()
    rebuilt = plain_rebuild(book, messages_of(rows), [])
    return compare(book, rebuilt, published, depths, TICK, LOT, most_work)


def test_equal():
    """Rows and depth of a rebuild are equal to it."""
    assert Comparison(5, 0, None) == compared(bbo(), depth(0, 2, 4))


@pytest.mark.parametrize(("most_work", "messages"), [(0, 0), (1, 1), (12, 1), (13, 2), (1_000, 5)])
def test_as_much_as_may_be_done(most_work: int, messages: int):
    """After so many rows, ten more for each message, no further message is compared."""
    assert Comparison(messages, 0, None) == compared(bbo(), depth(), most_work=most_work)


def test_a_rebuild_that_ends_with_its_work():
    """A plain rebuild that ends because its work is done differs from nothing."""
    book = PlainBook()

    def rebuilt() -> Iterator[PlainRow]:
        while book.work < 1_000:
            book.count("snapshots")
        yield from ()

    ended = compare(book, rebuilt(), bbo(), depth(), TICK, LOT, 1_000)
    assert Comparison(0, 0, None) == ended


def test_a_null_is_no_level():
    """Price and size of an empty side are published as null and are 0 in the plain row."""
    rows = [Row(1, 1, True, 1000, 1)]
    one_side = pl.DataFrame([{**dict.fromkeys(BBO_COLUMNS), "ts_origin_ns": 0}]).with_columns(
        ts_receipt_ns=1, sequence_number=1, bid_price_ticks=1000, bid_size_lots=1, flags=0x101
    )

    assert 0 == compared(one_side, depth(), rows).differing


def test_the_first_difference_in_words():
    """Both books are told in the instrument's units, and of the times only those that differ."""
    found = compared(bbo(bid_size_lots=(3, 9), flags=(4, 0x8)), depth())

    assert (5, 2) == (found.messages, found.differing)
    assert found.first is not None
    assert (3, 40) == (found.first.at, found.first.row.ts_receipt_ns)
    assert (
        "bid 0.009 at 100.4, ask 0.011 at 101.0, flags NOT_SEEDED",
        "bid 0.004 at 100.4, ask 0.011 at 101.0, flags NOT_SEEDED",
    ) == (found.first.published, found.first.expected)


def test_messages_that_the_feed_does_not_have():
    """Published rows beyond the end of the raw feed differ."""
    found = compared(bbo(), depth(), ROWS[:6])

    assert (2, 3) == (found.differing, found.first.at if found.first else None)
    assert found.first is not None and "no such message" in found.first.expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bid_1_size_lots": 8}, "level 1 of the bids in books.depth 0.008 at 100.2"),
        (
            {"ask_0_price_ticks": None, "ask_0_size_lots": None},
            "level 0 of the asks in books.depth none",
        ),
        (
            {"ask_19_price_ticks": 1, "ask_19_size_lots": 1},
            "level 19 of the asks in books.depth 0.001",
        ),
        ({"flags": 0}, "flags 0 in books.depth"),
        ({"bid_levels_confirmed": 3}, "bid_levels_confirmed 3 in books.depth"),
        ({"ts_origin_ns": 5}, "ts_origin_ns 5 in books.depth"),
    ],
)
def test_a_depth_row_that_differs(change: dict[str, int | None], said: str):
    """Levels, flags and times of the depth count as differences of its message."""
    found = compared(bbo(), depth(0, 2, **change))

    assert (1, 2) == (found.differing, found.first.at if found.first else None)
    assert found.first is not None and found.first.published.startswith(said)


def test_a_depth_row_of_no_message():
    """Between two rows of these messages there is none of another one."""
    rows = pl.concat([depth(0), depth(1, sequence_number=77), depth(2)])
    found = compared(bbo(), rows)

    assert (1, 0) == (found.differing, found.first.at if found.first else None)
    assert found.first is not None and "sequence number 77" in found.first.published


def test_depth_of_other_messages_at_the_same_time():
    """Rows before the first and after the last of these messages are not theirs."""
    rows = pl.concat([depth(1, sequence_number=77), depth(2), depth(3, sequence_number=78)])

    assert 0 == compared(bbo(), rows).differing


@pytest.mark.parametrize("flag", [BookFlag.SNAPSHOT_MISMATCH, BookFlag.OUT_OF_ORDER])
def test_up_to_the_first_row_in_doubt(flag: BookFlag):
    """A row that later evidence put in doubt is not claimed to be right, nor are those after it."""
    in_doubt = bbo(flags=(3, int(flag)), bid_size_lots=(4, 99))

    assert Comparison(3, 0, None) == compared(in_doubt, depth(0, 2, 4))


def test_up_to_where_more_would_have_to_be_known():
    """A book that lost its way for want of what happened before it claims nothing from there on."""
    book = PlainBook()

    def rebuilt():
        for at, row in enumerate(plain_rebuild(book, messages_of(ROWS), [])):
            book.is_lost = at == 2
            yield row

    wrong = bbo(bid_size_lots=(3, 9))
    assert Comparison(2, 0, None) == compare(book, rebuilt(), wrong, depth(), TICK, LOT, 1_000)


class TestCheck:
    def test_not_asked(self):
        """Without a sampled minute nothing is said."""
        none = dict.fromkeys(
            ("reference_minutes", "reference_messages", "reference_differing_messages")
        )

        assert check_reference_replay(a_row(**none), Thresholds()) is None

    def test_equal_minutes_pass(self):
        """It says how much was compared."""
        said = check_reference_replay(
            a_row(reference_minutes=3, reference_messages=4_000, reference_differing_messages=0),
            Thresholds(),
        )

        assert said is not None and said.passed
        assert "4,000 messages of 3 sampled minutes" in said.summary

    def test_a_difference_is_an_error(self):
        """A single message that differs withholds the metrics, and is told."""
        row = a_row(
            reference_minutes=3,
            reference_messages=4_000,
            reference_differing_messages=1,
            reference_first_difference="at 12:00:00.000000 UTC, sequence number 7: published ...",
        )
        (said,) = (
            each for each in evaluate(row, Thresholds()) if each.check.name == "reference_replay"
        )

        assert (False, "ERROR", True, True) == (
            said.passed,
            said.severity,
            said.degrades,
            said.withholds_metrics,
        )
        assert "sequence number 7: published" in said.summary
