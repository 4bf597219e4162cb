"""What is not published: a day that was quarantined, one without raw rows, one never run, and an
instrument without any day, through everything that reads published days.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import pytest

from market_pipeline import (
    asof_quotes,
    book_at,
    books_at,
    connect,
    depth_matrix,
    events,
    load_bars,
    load_bbo,
    load_checkpoint_depth,
    load_daily,
    load_depth,
    load_funding,
    load_information_bars,
    load_intervals,
    load_metrics,
    load_open_interest,
    load_trades,
    plot_day,
    replay,
    update_counts,
)
from market_pipeline.errors import MissingDataError
from market_pipeline.macros import MACROS
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import scan
from market_pipeline_tests.notebook.conftest import (
    FAULTY,
    MISSING,
    NEXT,
    QUARANTINED,
    QUIET,
    SYMBOL,
    Market,
)

pytestmark = pytest.mark.slow
ID, UNKNOWN, NEVER_RUN = f"SIMULATED:{SYMBOL}", "SIMULATED:NONE", date(2025, 3, 20)
OF_BOOKS = [
    *(load_bbo, load_depth, load_trades, load_bars, load_metrics, load_information_bars),
    *(load_daily, load_checkpoint_depth, load_intervals, depth_matrix),
]
OF_CONTRACTS = [load_funding, load_open_interest]


def noon(day: date) -> str:
    return f"{day}T12:00:00Z"


def span(day: date) -> tuple[str, str]:
    return f"{day}T00:00:00Z", f"{day + timedelta(days=1)}T00:00:00Z"


def count(state, message, levels):
    state[0] += 1
    return False


BY_INSTANT: dict[str, Callable] = {
    "asof_quotes": lambda of, day, **at: asof_quotes(of, [noon(day)], **at),
    "book_at": lambda of, day, **at: book_at(of, noon(day), **at),
    "books_at": lambda of, day, **at: list(books_at(of, [noon(day)], **at)),
    "replay": lambda of, day, **at: list(replay(of, *span(day), **at)),
    "replay_callback": lambda of, day, **at: replay(
        of, *span(day), on_message=count, state=np.zeros(1, np.int64), **at
    ),
    "events": lambda of, day, **at: events(of, *span(day), **at).read_all(),
    "update_counts": lambda of, day, **at: update_counts(of, *span(day), **at),
    "plot_day": plot_day,
}
READERS = {each.__name__: each for each in OF_BOOKS} | BY_INSTANT
DAYS = {
    "quarantined": (ID, QUARANTINED, "no 2025-03-07 (quarantined)", "put a good one in its place"),
    "no_data": (ID, MISSING, "no 2025-03-04 (no data)", "fetch that day into the lake"),
    "never_run": (ID, NEVER_RUN, "no 2025-03-20", "Run the pipeline for it"),
    "unknown": (UNKNOWN, QUIET, UNKNOWN, "Write the instrument as VENUE:SYMBOL"),
}


class TestAbsent:
    @pytest.mark.parametrize("asked", DAYS.values(), ids=DAYS)
    @pytest.mark.parametrize("read", READERS.values(), ids=READERS)
    def test_is_refused(self, market: Market, read, asked):
        """Each names the day, what became of it, and what to do next."""
        instrument, day, found, next_step = asked
        with pytest.raises(MissingDataError, match=re.escape(found)) as refused:
            read(instrument, day, data_dir=market.data_dir)
        assert next_step in refused.value.next_step
        assert "skip" not in refused.value.next_step

    @pytest.mark.parametrize("load", OF_BOOKS)
    def test_the_other_days(self, market: Market, load):
        """A range gives its other days if that is asked for, and its refusal says so."""
        with pytest.raises(MissingDataError, match="missing='skip' takes the other days"):
            load(ID, NEXT, QUARANTINED, data_dir=market.data_dir)
        rows = load(ID, FAULTY, QUARANTINED, data_dir=market.data_dir, missing="skip").collect()
        assert {FAULTY, QUIET, NEXT} == set(rows["dt"])

    @pytest.mark.parametrize("load", OF_CONTRACTS)
    def test_contracts(self, market: Market, load):
        """Funding and open interest have files of their own: a quarantined book takes none away."""
        assert load(ID, QUARANTINED, data_dir=market.data_dir).collect().height > 0
        for instrument, day, found, _ in list(DAYS.values())[1:]:
            with pytest.raises(MissingDataError, match=re.escape(found)):
                load(instrument, day, data_dir=market.data_dir)

    def test_in_sql(self, market: Market):
        """A macro has no row of a day or an instrument that is not there, but for a quarantined
        day's contracts.
        """
        found = {}
        with connect(market.data_dir) as connection:
            for macro in [each.name for each in MACROS]:
                for asked, (instrument, day, *_) in DAYS.items():
                    of_quotes = macro == "asof_quotes"
                    at = f"[epoch_ns(TIMESTAMP '{day} 12:00')]" if of_quotes else f"'{day}'"
                    known = "WHERE bid_price IS NOT NULL" if of_quotes else ""
                    rows = connection.sql(f"FROM {macro}('{instrument}', {at}) {known}")
                    if rows.fetchone():
                        found.setdefault(macro, []).append(asked)
        assert {f"load_{of}": ["quarantined"] for of in ("funding", "open_interest")} == found

    def test_scanned(self, market: Market):
        """A scan of a table is what the stages read: nothing is no row, and no error."""
        warehouse = Warehouse(market.data_dir)
        for instrument, day, *_ in DAYS.values():
            assert scan(warehouse, TABLES["book_bbo"], day, {instrument}).collect().is_empty()
