"""`rebuild`: raw rows in, book rows out, by the pipeline's own code and without a pipeline."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from market_pipeline.notebook.feeds import RawRows
    from market_pipeline.notebook.rebuilt import RebuiltBook

__all__ = ["rebuild"]


def rebuild(
    deltas: RawRows,
    snapshots: RawRows | None = None,
    *,
    trades: RawRows | None = None,
    instrument: str | None = None,
    tick: Decimal | str | float | Literal["infer"] = "infer",
    lot: Decimal | str | float | Literal["infer"] = "infer",
    depth_every: int | Literal["message"] | None = None,
    resync: Literal["never", "when_invalid", "always"] = "when_invalid",
    crossed: Literal["flag", "uncross", "resync"] = "flag",
    crossed_resync_seconds: float = 2.0,
) -> RebuiltBook:
    """Rebuilds the order book of one instrument from raw level-2 rows.

    `deltas`, `snapshots` and `trades` are each files, a frame, another table, or arrays by column
    name (`RawRows`). Columns have the vendor's names in either spelling (`timestamp` or
    `origin_time`, `receipt_timestamp` or `received_time`); in memory there may be more. Times are
    int64 ns since the epoch, or datetimes, UTC.

    Args:
        deltas: Changed levels in feed order: `timestamp`, `receipt_timestamp`, `sequence_number`
            (int64), `side_is_bid` (bool), `price` in quote currency and `size` in base units or
            contracts (float64; a size is absolute, 0 removes the level). Rows with equal
            `sequence_number` and `receipt_timestamp` are one message.
        snapshots: Top levels in feed order: `receipt_timestamp`, `sequence_number` (int64) and, for
            k from 0 (the best) on, `bid_k_price`, `bid_k_size`, `ask_k_price`, `ask_k_size`
            (float64; null, NaN or 0 is no level). The first usable one seeds the book, later ones
            are compared with it. Without any, every row is flagged NOT_SEEDED; a capture holds its
            own.
        trades: `timestamp` and `receipt_timestamp`. A silence of the deltas in which trades go on,
            or one longer than a minute, is a suspected gap, as in the pipeline by default. Without
            trades no gap is suspected; what is proven to be lost, as in a capture, is a gap anyway.
        instrument: Whose lines of a capture to take, such as BINANCE_FUTURES:BTC-USDT-PERP; the
            venue says which rules hold. Other rows do not need it.
        tick, lot: The price and size step; "infer" takes the coarsest that fits the deltas but for
            outliers.
        depth_every: Also make depth rows: "message", or the last message of every so many
            milliseconds of the receipt clock.
        resync: When a later snapshot replaces the book inside its window.
        crossed: What a crossed book calls for besides its flag: nothing; removing the levels that a
            message crossed from the side it did not move; or a resync after a time.
        crossed_resync_seconds: That time.

    Raises:
        SchemaError: A column is missing or has another type.
        DomainError: A value is null, a price not above 0, a size below 0, or an argument out of
            range; `row`, `column` and `found` say where and what.
        MissingDataError: A file is not there, or there is no row.
        LakeFileError: A file is truncated or damaged.
        InstrumentsError: A capture is given without an instrument that Binance has.
    """
    # The compiler and the kernels load with the first book, and not where the name is imported.
    from market_pipeline.notebook.feeds import feeds_of  # noqa: PLC0415
    from market_pipeline.notebook.rebuilt import rebuild_options, rebuilt_book  # noqa: PLC0415

    feeds = feeds_of(deltas, snapshots, trades, instrument)
    options = rebuild_options(resync, crossed, crossed_resync_seconds, depth_every)
    return rebuilt_book(feeds, tick, lot, options)
