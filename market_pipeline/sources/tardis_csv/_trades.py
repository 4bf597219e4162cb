"""The file `trades`: as the raw contract has them, with the venue's ids where they are numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_pipeline.mapped import ColumnArray
from market_pipeline.sources.batches import Trades
from market_pipeline.sources.raw_writer import RawWriter
from market_pipeline.sources.tardis_csv.reading import TRADES, IntArray, Whose, read_parts

__all__ = ["convert_trades"]


def convert_trades(out: RawWriter, file: Path, whose: Whose) -> None:
    """Gives the trades of a file to `out`; a trade of an unknown side is left out and noted.

    Their ids are the venue's if all of the day are whole numbers; else they are numbered from 1,
    which is noted too.

    Raises:
        MarketPipelineError: See `read_parts`; a DomainError also for a price or amount not above 0.
    """
    venues_ids = all(
        _whole_numbers(part.arrays["id"]) is not None
        for part in read_parts(file, TRADES, whose, only=["id"])
    )
    if not venues_ids:
        out.note("trades file numbered from 1, because its ids are not whole numbers", file.name)
    for part in read_parts(file, TRADES, whose):
        side = part.words["side"]
        is_buy = side.are("buy")
        known = is_buy | side.are("sell")
        part.refuse(~(known | side.are("unknown")), "side", "buy, sell or unknown")
        for name in ("price", "amount"):
            values = part.arrays[name]
            part.refuse(~((values > 0) & np.isfinite(values)), name, "a finite number above 0")
        if not known.all():
            first = part.first_row + int((~known).argmax())
            out.note(
                "trades left out, because their side is unknown",
                f"row {first} of {file.name}",
                int((~known).sum()),
            )
        ids = _whole_numbers(part.arrays["id"]) if venues_ids else None
        if ids is None:
            ids = part.first_row + 1 + np.arange(known.size, dtype=np.int64)
        out.trades(
            Trades(
                ts_origin_ns=part.ts_origin_ns[known],
                ts_receipt_ns=part.ts_receipt_ns[known],
                price=part.arrays["price"][known],
                quantity=part.arrays["amount"][known],
                is_buy=is_buy[known],
                id=ids[known],
            )
        )


def _whole_numbers(ids: ColumnArray) -> IntArray | None:
    try:
        return np.asarray(pc.cast(pa.array(ids, pa.string()), pa.int64()).to_numpy())
    except pa.ArrowInvalid:
        return None
