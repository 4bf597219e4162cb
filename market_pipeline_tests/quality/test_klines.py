"""What the check `klines` says of klines that were compared."""

from __future__ import annotations

from datetime import date

from market_pipeline.quality.checks.klines import check_klines, kline_places

DAY, START_NS, MINUTE_NS = date(2024, 8, 8), 1_723_075_200_000_000_000, 60_000_000_000
FOUND: dict[int, list[str]] = {
    START_NS: [],
    START_NS + 2 * MINUTE_NS: ["volume: 1.0, 2.0", "trade_count: 1, 2"],
    START_NS + MINUTE_NS: ["high: 2.0, 3.0"],
}


def test_differences_are_counted_and_the_first_is_named() -> None:
    """The figure is the number of klines that differ; the earliest is in the summary."""
    outcome = check_klines(FOUND)
    assert outcome is not None
    assert (False, 2.0, "WARN") == (outcome.passed, outcome.figure, outcome.severity)
    assert "2 of 3, first that of 00:01:00" in outcome.summary
    assert "high: 2.0, 3.0" in outcome.summary


def test_klines_that_agree() -> None:
    """Without a difference the check passes; without a kline it says nothing."""
    outcome = check_klines({START_NS: []})
    assert outcome is not None
    assert (True, "1 kline compared, none differs from our bar.") == (
        outcome.passed,
        outcome.summary,
    )
    assert check_klines({}) is None


def test_first_and_worst_place() -> None:
    """Places are in order of time; the worst is the kline in which most differs."""
    places = kline_places("BINANCE", "BTC-USDT", DAY, FOUND, 60)
    assert [("first", START_NS + MINUTE_NS), ("worst", START_NS + 2 * MINUTE_NS)] == [
        (each.place, each.ts_receipt_ns) for each in places
    ]
    assert places[0].end_ns == START_NS + 2 * MINUTE_NS
    assert [] == kline_places("BINANCE", "BTC-USDT", DAY, {START_NS: []}, 60)
