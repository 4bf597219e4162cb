"""Source `tardis_csv`: Tardis's downloadable CSV files, a converter.

Message boundary: rows with equal `local_timestamp`; a block of `is_snapshot` rows is apart.
Clock: `timestamp` is the exchange's time, `local_timestamp` that of receipt; both microseconds.
Sequence: there is none, so messages are numbered in the order of the day.
Seed: the block of `is_snapshot` rows that a file begins with.
"""

from __future__ import annotations

from market_pipeline.sources.tardis_csv.converter import (
    CONVERTER,
    TardisCsv,
    tardis_exchange,
    tardis_symbol,
)

__all__ = ["CONVERTER", "TardisCsv", "tardis_exchange", "tardis_symbol"]
