"""Files that unpack to gigabytes, or hold millions of rows, through every stage beside a clean day.

The stages run in a process of their own. What it has after a clean day, and the default memory
budget or a part of it beyond, is all that the system gives it for the hostile one; its peak is
measured besides.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.machine import panic_without_backtrace
from market_pipeline.sources.crypto_lake import DELTAS, TRADES, day_folder
from market_pipeline.sources.memory_limits import MAX_MESSAGES, MAX_TRADES
from market_pipeline.stages.raw.profile import profile_day
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.conftest import kilobytes, printed_by
from market_pipeline_tests.sources.hostile_files import (
    MEGABYTE,
    many,
    prefixed_text,
    shared_gigabyte,
    sides,
    write,
)
from market_pipeline_tests.sources.raw_files import deltas, trades
from market_pipeline_tests.stages.days import (
    BTC,
    DAY,
    END_NS,
    ETH,
    FIRST_SEQUENCE,
    START_NS,
    Later,
    instrument,
    raw_day,
    write_day,
)

BUDGET_MEGABYTES = Settings.model_fields["memory_budget_mb"].default
PEAK_MEGABYTES = 200
"""What the hostile day may take beyond the clean ones; its texts alone have five times as much."""


def run_day(lake: Path, folder: Path, of: Sequence[Instrument]) -> list[dict[str, object]]:
    """The verdicts of instruments after all stages, and what is wrong with their raw tables."""
    warehouse = Warehouse(folder / "data")
    warehouse.prepare()
    profiles = profile_day(raw_day(lake, *of), of, warehouse)
    later = Later(lake, folder, warehouse, *of, widths={})  # the rows of every second too
    rows = later.report(*of)
    later.metrics(*of, rows=rows)
    bars = later.bars(*of, rows=rows).files + later.information_bars(*of).files
    return [
        {
            "outcome": row.outcome,
            "condition": row.condition,
            "failure": row.failure,
            "bars": sum(file.instrument == each.id for file in bars),
            "raw": [found["failure"] for found in profiles if found["symbol"] == each.symbol],
        }
        for each, row in zip(of, rows, strict=True)
    ]


def main(folder: Path, megabytes: int, *symbols: str) -> None:
    """Runs the clean day, then the hostile one in so much more, and prints what came of both."""
    panic_without_backtrace()
    of = [instrument(symbol) for symbol in symbols]
    run_day(folder / "clean", folder / "before", of)
    before = kilobytes("VmHWM")
    most = (kilobytes("VmData") << 10) + megabytes * 10**6
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    verdicts = run_day(folder / "hostile", folder / "after", of)
    peak = (kilobytes("VmHWM") - before) / 1024
    json.dump({"megabytes": peak, "verdicts": verdicts}, sys.stdout)


def write_clean(folder: Path, of: Sequence[Instrument]) -> None:
    """The clean day, and what is to become the hostile one."""
    for lake in ("clean", "hostile"):
        for each in of:
            write_day(folder / lake, each)


def shared_text(path: Path) -> None:
    """A side of 20 MB that 50,000 rows share: it fits, but not once for each of them."""
    write(path, sides(50_000, "y" * (20 * MEGABYTE)))


BOMBS = (
    (shared_gigabyte, "unpacks to more than may be held in memory"),
    (shared_text, "at most 1024 bytes"),
    (prefixed_text, "DELTA_BYTE_ARRAY"),
)
"""What writes each small file, and why it is refused."""


def many_messages(folder: Path, rows: int, *, bad: bool = False) -> None:
    """Messages of one row, evenly over the day but for ten minutes of silence at noon.

    Where they are `bad`, every fifth has a receipt time of anywhere in the day.
    """
    day = np.int64(END_NS - START_NS - 601 * 10**9)

    def part(number: np.ndarray) -> pa.Table:
        time_ns = START_NS + number * (day // rows) + (number > rows // 2) * (600 * 10**9)
        every = np.full(number.size, True)
        anywhere_ns = START_NS + number * 7_919 * 10**9 % (END_NS - START_NS)
        is_bad = bad & (number % 5 == 3)
        return deltas(
            number.size,
            timestamp=time_ns,
            receipt_timestamp=np.where(is_bad, anywhere_ns, time_ns + 5_000_000),
            sequence_number=FIRST_SEQUENCE + number,
            side_is_bid=every,
            price=np.full(number.size, 99.0),
            size=1.0 + number % 2,
        )

    many(folder / "1.snappy.parquet", rows, part)


many_bad_messages = partial(many_messages, bad=True)


def many_trades(folder: Path, rows: int) -> None:
    """Trades whose times jump to and fro, so that whoever needs them in order has to sort them."""

    def part(number: np.ndarray) -> pa.Table:
        time_ns = START_NS + number * 7_919 * 10**9 % (END_NS - START_NS)
        times = {"timestamp": time_ns, "receipt_timestamp": time_ns + 5_000_000}
        same = {"amount": np.ones(number.size), "price": np.full(number.size, 100.5)}
        return trades(number.size, **times, **same)

    many(folder / "1.snappy.parquet", rows, part)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "make", "rows", "megabytes"),
    [
        # With bad stamps a day needs more of everything.
        pytest.param(
            *(DELTAS, many_messages, MAX_MESSAGES, BUDGET_MEGABYTES), marks=pytest.mark.attack
        ),
        pytest.param(
            *(DELTAS, many_bad_messages, MAX_MESSAGES, BUDGET_MEGABYTES), marks=pytest.mark.attack
        ),
        pytest.param(
            *(TRADES, many_trades, MAX_TRADES, BUDGET_MEGABYTES), marks=pytest.mark.attack
        ),
        # More than a quarter: some is needed however few they are.
        (DELTAS, many_bad_messages, MAX_MESSAGES // 4, BUDGET_MEGABYTES * 7 // 10),
        (TRADES, many_trades, MAX_TRADES // 4, BUDGET_MEGABYTES * 2 // 5),
    ],
    ids=[
        *("messages", "messages with bad stamps", "trades"),
        *("a quarter with bad stamps", "a quarter of the trades"),
    ],
)
def test_a_day_of_most_rows(folder: Path, table, make, rows, megabytes):
    """As many rows as a day may have are published within the memory budget.

    All of them take minutes, and run by hand; a quarter has its part of the budget.
    """
    write_clean(folder, (BTC, ETH))
    make(day_folder(folder / "hostile", table, BTC.venue, BTC.symbol, DAY), rows)
    found = printed_by(__name__, folder, megabytes, BTC.symbol, ETH.symbol)
    assert ["rebuilt", "rebuilt"] == [each["outcome"] for each in found["verdicts"]]
    assert [2, 2] == [each["bars"] for each in found["verdicts"]]
    assert "available" == found["verdicts"][1]["condition"]


@pytest.mark.slow
def test_small_files_that_become_large(folder: Path):
    """Each instrument is refused with its reason, the other published, in bounded memory."""
    bombs = {instrument(f"{make.__name__.upper()}-USDT"): (make, reason) for make, reason in BOMBS}
    of = [*bombs, ETH]
    write_clean(folder, of)
    for each, (make, _) in bombs.items():
        make(
            day_folder(folder / "hostile", TRADES, each.venue, each.symbol, DAY)
            / "1.snappy.parquet"
        )
    found = printed_by(__name__, folder, BUDGET_MEGABYTES, *(each.symbol for each in of))
    *all_refused, clean = found["verdicts"]
    for refused, (make, reason) in zip(all_refused, bombs.values(), strict=True):
        assert ("quarantined", True) == (refused["outcome"], reason in refused["failure"]), make
        assert [True, True, False] == [each is None for each in refused["raw"]]
        assert reason in refused["raw"][2]
    assert ("rebuilt", "available") == (clean["outcome"], clean["condition"])
    assert [None] * 3 == clean["raw"]
    assert found["megabytes"] < PEAK_MEGABYTES


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
