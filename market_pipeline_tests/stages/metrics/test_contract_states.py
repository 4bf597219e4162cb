from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from market_pipeline.config.settings import load_settings
from market_pipeline.metrics.contract_states import CONTRACT_STATES
from market_pipeline.sources.crypto_lake import TRADES, day_folder
from market_pipeline.sources.crypto_lake_contracts import FUNDING
from market_pipeline.stages.metrics.contract_states import StateCounts, states_day
from market_pipeline.stages.raw.convert import register_local_day
from market_pipeline.stages.raw.objects import RawObjects
from market_pipeline.stages.raw.register import register_day
from market_pipeline_tests.sources.raw_files import funding, shard, trades
from market_pipeline_tests.sources.tardis_files import INCREMENTAL, TICKER, path_of, write_lines
from market_pipeline_tests.stages.days import BTC, DAY, END_NS, ETH, START_NS

STATE = CONTRACT_STATES["funding"]


def write(lake: Path, instrument, rows: pa.Table, number: int = 1) -> Path:
    """A shard of the instrument's funding."""
    return shard(day_folder(lake, FUNDING, instrument.venue, instrument.symbol, DAY), number, rows)


def rows_at(*seconds: float, **columns) -> pa.Table:
    """Funding that was received at these seconds of the day."""
    received = START_NS + np.array([round(each * 1e9) for each in seconds], np.int64)
    return funding(len(seconds), receipt_timestamp=received, timestamp=received - 7, **columns)


def states_of(lake: Path, warehouse, *instruments, warn=lambda _: None):
    """What is staged of some instruments."""
    rows = [row for each in instruments for row in register_day(lake, FUNDING, each, DAY)]
    raw = RawObjects(lake, STATE.manifest.frame(rows))
    return states_day(STATE, DAY, instruments, raw, warehouse, lake, warn)


def test_by_receipt(lake: Path, warehouse):
    """Rows come by receipt, of one time as they stand in the files, each with its place there."""
    write(lake, BTC, rows_at(5, 3, 3))
    write(lake, BTC, rows_at(4), number=2)
    (file,) = states_of(lake, warehouse, BTC).staged
    rows = pl.read_parquet(file.path)

    assert [1, 2, 3, 0] == rows["row"].to_list()
    assert [3, 3, 4, 5] == ((rows["ts_receipt_ns"] - START_NS) // 10**9).to_list()
    assert [0.0002, 0.0003, 0.0001, 0.0001] == rows["rate"].to_list()
    assert STATE.table.arrow_schema.names == rows.columns


def test_what_is_left_out(lake: Path, warehouse):
    """A row that repeats another in all its values, and rows of another day; both are counted."""
    border = (END_NS - START_NS) / 1e9
    same = dict.fromkeys(("rate", "mark_price", "index_price"), np.full(5, 1.0))
    write(lake, BTC, rows_at(1, 1, 2, -1, border, **same))
    made = states_of(lake, warehouse, BTC)

    assert {BTC.id: StateCounts(rows=2, repeated=1, other_day=2)} == made.counts


def test_same_bytes_again(lake: Path, warehouse):
    """The same day makes the same file."""
    write(lake, BTC, rows_at(1, 2))

    assert 1 == len({states_of(lake, warehouse, BTC).staged[0].sha256 for _ in range(2)})


def test_no_file_is_no_fault(lake: Path, warehouse):
    """An instrument without one has nothing, without a reason."""
    write(lake, BTC, rows_at(1))
    made = states_of(lake, warehouse, ETH, BTC)

    assert ([BTC.id], [ETH.id], {}) == (
        [file.instrument for file in made.staged],
        made.withdrawn,
        made.without,
    )


@pytest.mark.parametrize("how", ["value", "cut", "columns"])
def test_a_bad_file(lake: Path, warehouse, how):
    """It is told, kept aside with the reason, and keeps no other instrument from its rows."""
    write(lake, ETH, rows_at(1))
    file = write(lake, BTC, rows_at(1, rate=np.array([np.inf])))
    if how == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    if how == "columns":
        write(lake, BTC, trades(2))
    told: list[str] = []
    made = states_of(lake, warehouse, BTC, ETH, warn=told.append)
    kept = sorted(path.name for path in warehouse.quarantine_dir.rglob("*") if path.is_file())

    assert ([ETH.id], [BTC.id]) == ([each.instrument for each in made.staged], made.withdrawn)
    assert told[0].startswith(f"{BTC.id} has no funding: ")
    assert [".parquet", ".json"] == [Path(name).suffix for name in kept]
    assert TRADES.name not in str(kept)


def test_a_file_without_rows(lake: Path, warehouse):
    """It is published without rows."""
    write(lake, BTC, funding(0))

    assert [0] == [file.rows for file in states_of(lake, warehouse, BTC).staged]


@pytest.mark.parametrize("state", CONTRACT_STATES.values(), ids=list(CONTRACT_STATES))
def test_of_a_converter(lake: Path, warehouse, state):
    """What a converter made of a vendor's file is registered with that file, and published."""
    of = BTC.model_copy(update={"source": "tardis_csv"})
    settings = load_settings(lake_uri=lake, data_dir=warehouse.data_dir)
    at = START_NS // 1_000
    for kind, row in ((INCREMENTAL, "true,bid,1,1"), (TICKER, ",0.0001,,7.5,,,60000")):
        file = path_of(lake, "binance", kind, DAY, "BTCUSDT")
        write_lines(file, kind, [f"binance,BTCUSDT,{at},{at + 5},{row}"])
    registered = register_local_day(settings, state.raw, of, DAY)
    raw = RawObjects(lake, state.manifest.frame(registered))
    (staged,) = states_day(state, DAY, [of], raw, warehouse, lake).staged
    rows = pl.read_parquet(staged.path)

    assert [TICKER in each for each in registered[0].made_from or ()] == [False, True]
    assert [at * 1_000 + 5_000] == rows["ts_receipt_ns"].to_list()
    assert [0.0001, 7.5][state is CONTRACT_STATES["open_interest"]] == rows[
        {"funding": "rate"}.get(state.raw.name, state.raw.name)
    ].item()
