"""The file `derivative_ticker`: funding and open interest, a row of each where it changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from market_pipeline.errors import MarketPipelineError, is_of_machine
from market_pipeline.mapped import ColumnArray
from market_pipeline.sources.crypto_lake_contracts import FUNDING, OPEN_INTEREST
from market_pipeline.sources.raw_writer import RawWriter
from market_pipeline.sources.tardis_csv.reading import TICKER, BoolArray, Part, Whose, read_parts

__all__ = ["convert_ticker"]

# 2001 to 2261, as for times of any other unit.
_LEAST_US, _MOST_US = 1e15, 9.2e15
_NAMES = {
    "rate": "funding_rate",
    "next_funding_time": "funding_timestamp",
    "mark_price": "mark_price",
    "index_price": "index_price",
}


def convert_ticker(out: RawWriter, file: Path, whose: Whose) -> None:
    """Gives the funding and the open interest of a file to `out`.

    A row of the file repeats what it knows whenever anything of it changes, so a row is given where
    one of its own values is another one than before. An empty value is NaN; a row without a
    funding rate has no funding, and one without open interest none of that. A file that cannot be
    used is left out and noted, because nothing of the book depends on it.

    Raises:
        MarketPipelineError: What is the machine's (`errors.is_of_machine`).
    """
    try:
        for part in read_parts(file, TICKER, whose):
            _refuse_outside(part)
    except MarketPipelineError as error:
        if is_of_machine(error):
            raise
        where = f"row {error.row} of {file.name}" + (f", {error.column}" if error.column else "")
        out.note(f"{TICKER} file left out", f"{where}: {error.found}, expected {error.expected}")
        return
    funding, interest = _Changes(list(_NAMES.values())), _Changes(["open_interest"])
    for part in read_parts(file, TICKER, whose):
        arrays = part.arrays
        at = funding.rows_of(part, ~np.isnan(arrays["funding_rate"]))
        out.contract_states(FUNDING, _rows(part, at, _NAMES))
        at = interest.rows_of(part, ~np.isnan(arrays["open_interest"]))
        out.contract_states(OPEN_INTEREST, _rows(part, at, {"open_interest": "open_interest"}))


def _refuse_outside(part: Part) -> None:
    arrays = part.arrays
    paid = arrays["funding_timestamp"]
    bad = ~np.isnan(paid) & ~((paid >= _LEAST_US) & (paid < _MOST_US))
    part.refuse(bad, "funding_timestamp", "microseconds since 1970, of 16 digits")
    part.refuse(np.isinf(arrays["funding_rate"]), "funding_rate", "a finite number")
    for name in ("mark_price", "index_price"):
        bad = ~np.isnan(arrays[name]) & ~((arrays[name] > 0) & np.isfinite(arrays[name]))
        part.refuse(bad, name, "a finite number above 0")
    interest = arrays["open_interest"]
    bad = ~np.isnan(interest) & ~((interest >= 0) & np.isfinite(interest))
    part.refuse(bad, "open_interest", "a finite number, at least 0")


def _rows(part: Part, at: BoolArray, names: dict[str, str]) -> dict[str, ColumnArray]:
    times = {"timestamp": part.ts_origin_ns[at], "receipt_timestamp": part.ts_receipt_ns[at]}
    return {own: part.arrays[name][at] for own, name in names.items()} | times


class _Changes:
    """Which rows have other values than the row before that was given."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._last = [np.nan] * len(names)

    def rows_of(self, part: Part, there: BoolArray) -> BoolArray:
        """Of the rows that are there, those that differ from the one before; bool (n,)."""
        at = np.flatnonzero(there)
        differs = np.zeros(at.size, np.bool_)
        for number, name in enumerate(self._names):
            now = part.arrays[name][at]
            before = np.concatenate(([self._last[number]], now[:-1]))
            differs |= (now != before) & ~(np.isnan(now) & np.isnan(before))
            if at.size:
                self._last[number] = now[-1]
        changed = np.zeros(there.size, np.bool_)
        changed[at[differs]] = True
        return changed
