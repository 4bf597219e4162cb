"""The regime of a span: its rate and volatility among those of the days published before it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import msgspec

from market_pipeline.golden.manifest import Manifest
from market_pipeline.sources.binance_capture import MARKET_OF_VENUE, capture_symbol
from market_pipeline.tables import open_catalogue
from market_pipeline.warehouse.layout import Warehouse

__all__ = ["DAYS", "Regime", "regime_of"]

DAYS = 30
"""How many published days before the span it is compared with."""

_RATES = """
SELECT messages / observed_seconds FROM quality.validation_report
WHERE exchange = $1 AND symbol = $2 AND dt < $3 AND messages > 0 AND observed_seconds > 0
ORDER BY dt DESC LIMIT $4
"""
# As `golden.figures` has it of the span: between last trades of minutes that have a trade.
_VOLATILITIES = """
SELECT sqrt(avg(pow(ln(close / before), 2))) FROM (
    SELECT dt, close, lag(close) OVER (PARTITION BY dt ORDER BY bar_start) AS before
    FROM metrics.bars
    WHERE exchange = $1 AND symbol = $2 AND dt < $3 AND width_seconds = 60 AND close > 0
) WHERE before > 0 GROUP BY dt ORDER BY dt DESC LIMIT $4
"""


class Regime(msgspec.Struct, frozen=True):
    """How busy and how volatile a span was, next to the last published days before it.

    Attributes:
        days: How many days it was compared with, at most `DAYS`.
        message_rate, volatility: Of the span; see `golden.figures.Figures`.
        rate_rank, volatility_rank: The share of those days below the span, from 0 to 1; null where
            there is no such day, or no such figure of the span.
    """

    days: int
    message_rate: float | None
    volatility: float | None
    rate_rank: float | None = None
    volatility_rank: float | None = None


def regime_of(data_dir: Path, manifest: Manifest) -> Regime:
    """Compares a sample with what is published of its instrument before the day it begins."""
    figures = manifest.figures
    rates: list[float] = []
    volatilities: list[float] = []
    if Warehouse(data_dir).catalogue.is_file():
        with open_catalogue(data_dir) as connection:
            of = _published_symbol(connection, manifest)
            if of is not None:
                day = datetime.fromtimestamp(manifest.start_ns // 1_000_000_000, UTC).date()
                chosen = [manifest.exchange, of, day, DAYS]
                rates = [x for (x,) in connection.execute(_RATES, chosen).fetchall()]
                volatilities = [x for (x,) in connection.execute(_VOLATILITIES, chosen).fetchall()]
    return Regime(
        max(len(rates), len(volatilities)),
        figures.message_rate,
        figures.volatility,
        _rank(figures.message_rate, rates),
        _rank(figures.volatility, volatilities),
    )


def _published_symbol(connection: duckdb.DuckDBPyConnection, manifest: Manifest) -> str | None:
    """The published instrument's symbol, which the venue spells as the recording does."""
    query = "SELECT DISTINCT symbol FROM quality.validation_report WHERE exchange = $1 ORDER BY 1"
    market = MARKET_OF_VENUE.get(manifest.exchange)
    for (symbol,) in connection.execute(query, [manifest.exchange]).fetchall():
        spelt = capture_symbol(market, symbol) if market else symbol
        if manifest.symbol in (symbol, spelt):
            return str(symbol)
    return None


def _rank(value: float | None, others: Sequence[float]) -> float | None:
    if value is None or not others:
        return None
    return sum(other < value for other in others) / len(others)
