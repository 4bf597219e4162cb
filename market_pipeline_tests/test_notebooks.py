"""The engine of the backtest notebook, on events whose fills are counted by hand."""

from __future__ import annotations

import runpy
from typing import Any

import pytest

from market_pipeline_tests.conftest import REPOSITORY

SECOND = 1_000_000_000
BUY, SELL = 1, -1


@pytest.fixture(scope="module")
def notebook() -> dict[str, Any]:
    return runpy.run_path(str(REPOSITORY / "docs/notebooks/backtest.py"))


def quote(at_s: float, bid: int | None, ask: int | None, lots: int = 50, *, valid: bool = True):
    """A quote with as much at the bid as at the ask."""
    return (round(at_s * SECOND), True, valid, bid, lots, ask, lots, None, None, None)


def trade(at_s: float, price: int, lots: int, *, is_buy: bool, valid: bool = True):
    return (round(at_s * SECOND), False, valid, None, None, None, None, price, lots, is_buy)


def fills(notebook, *events, **settings) -> list[tuple[float, int, int, int]]:
    """Second, side, price and lots of each fill of a maker of 10 lots that is a second late."""
    chosen = {"lots": 10, "most_lots": 10, "latency_ns": SECOND} | settings
    rows = notebook["Maker"](**chosen).run(events).rows()
    return [(ns / SECOND, side, price, lots) for ns, side, price, lots in rows]


def test_waits_for_the_queue(notebook):
    """What was shown at the price trades first; then as much is filled as trades beyond it."""
    events = [
        quote(0, 100, 102, lots=50),
        trade(2, 100, 48, is_buy=False),
        trade(3, 100, 5, is_buy=False),
        trade(4, 100, 100, is_buy=False),
    ]

    assert [(3, BUY, 100, 3), (4, BUY, 100, 7)] == fills(notebook, *events)
    in_front = fills(notebook, *events, front_of_queue=True)
    assert [(2, BUY, 100, 10)] == in_front


def test_who_joins_before_it_arrives_is_ahead(notebook):
    """Size that is shown until the order is there stands before it."""
    events = [
        quote(0, 100, 102, lots=5),
        quote(0.5, 100, 102, lots=80),
        trade(2, 100, 60, is_buy=False),
    ]

    assert [] == fills(notebook, *events)


def test_is_not_there_before_its_latency(notebook):
    """An order decided at 0 is not filled within a second, and the old one is for a second more."""
    early = [quote(0, 100, 102), trade(0.9, 90, 500, is_buy=False)]
    moved = [quote(0, 100, 102), quote(2, 104, 106), trade(2.5, 100, 60, is_buy=False)]
    gone = [quote(0, 100, 102), quote(2, 101, 106), trade(3.5, 100, 60, is_buy=False)]

    assert [] == fills(notebook, *early)
    assert [(2, SELL, 102, 10), (2.5, BUY, 100, 10)] == fills(notebook, *moved)
    assert [(3.5, BUY, 101, 10)] == fills(notebook, *gone)


def test_the_market_going_through_fills_it(notebook):
    """A trade or a quote beyond the price fills the whole order at its own price."""
    assert [(2, SELL, 102, 10)] == fills(
        notebook, quote(0, 100, 102), trade(2, 103, 1, is_buy=True)
    )
    assert [(2, BUY, 100, 10)] == fills(notebook, quote(0, 100, 102), quote(2, 98, 100))


def test_takers_of_its_own_side_do_not_fill_it(notebook):
    """A taker who buys meets asks only."""
    assert [] == fills(notebook, quote(0, 100, 102), trade(2, 100, 500, is_buy=True))


def test_nothing_happens_in_an_invalid_book(notebook):
    """Neither a trade nor a quote that is not valid fills or decides anything."""
    events = [
        quote(0, 100, 102),
        trade(2, 90, 500, is_buy=False, valid=False),
        quote(3, 90, 91, valid=False),
        trade(3.5, 90, 500, is_buy=False),
        quote(6, 99, 101),
        trade(6.5, 90, 500, is_buy=False),
    ]

    assert [] == fills(notebook, *events)


def test_silence_cancels(notebook):
    """After so long without a quote its orders are gone, and it counts those it had."""
    events = [quote(0, 100, 102), trade(20, 100, 500, is_buy=False)]
    maker = notebook["Maker"](lots=10, latency_ns=SECOND)

    assert ([], 2) == (maker.run(events).rows(), maker.caught)


def test_a_book_of_one_side_stops_it(notebook):
    """Without a bid there is no touch to join."""
    events = [quote(0, None, 102), trade(2, 103, 500, is_buy=True)]

    assert [] == fills(notebook, *events)


def test_position_is_bounded(notebook):
    """At its limit it asks for no more of that side."""
    events = [quote(second, 100, 102, lots=1) for second in range(0, 40, 2)]
    sold_to = [trade(second + 1.5, 100, 100, is_buy=False) for second in range(0, 40, 2)]
    both = sorted([*events, *sold_to], key=lambda row: row[0])

    assert 20 == sum(lots for *_, lots in fills(notebook, *both, most_lots=20))
