from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.books.tables import BBO, DEPTH
from market_pipeline.warehouse import lineage
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.lineage import (
    LINEAGE,
    NO_ROWS_SHA256,
    Input,
    LineageRow,
    MadeOf,
    code_version,
    commit_properties,
    lineage_row,
    record_lineage,
    rows_sha256,
    rows_sha256_of_each,
)
from market_pipeline.warehouse.manifest import RAW_TRADES
from market_pipeline.warehouse.tables import Column
from market_pipeline.warehouse.working import read_rows
from market_pipeline.warehouse.working_file import writing

DAY, DAY_BEFORE = date(2024, 8, 8), date(2024, 8, 7)
BTC, ETH = "BINANCE:BTC-USDT", "BINANCE:ETH-USDT"
MADE_OF = MadeOf(
    (Input("lake.raw_trades", DAY, "trades/1.parquet", "ab" * 32, "s3://lake/trades/1.parquet"),),
    {"tick": "0.1", "thresholds": {"silence_factor": 3.0}},
)

_TEXTS = st.sampled_from(("", "a", "b", "a\n", '"', "books.bbo", "not fetched"))
_INPUTS = st.builds(
    Input, _TEXTS, st.sampled_from((DAY, DAY_BEFORE)), st.none() | _TEXTS, _TEXTS, st.none()
)
_VALUES = st.none() | st.booleans() | st.sampled_from((1, 1.5, 2)) | _TEXTS
_PARTS = st.builds(
    MadeOf,
    st.lists(_INPUTS, max_size=3).map(tuple),
    st.dictionaries(_TEXTS, _VALUES | st.dictionaries(_TEXTS, _VALUES, max_size=2), max_size=2),
)


def typed(value: Any) -> Any:
    """A value that differs from others as JSON does: 1 is not true, and keys have no order."""
    if isinstance(value, dict):
        return sorted((name, typed(part)) for name, part in value.items())
    return type(value).__name__, str(value)


class TestKey:
    @given(_PARTS, _PARTS)
    def test_differs_iff_a_part_differs(self, one: MadeOf, other: MadeOf):
        """The keys of two are equal exactly if every input and every parameter is."""
        same = one.inputs == other.inputs and typed(one.parameters) == typed(other.parameters)

        assert same == (one.key(BBO) == other.key(BBO))

    @given(_PARTS, st.data())
    def test_one_changed_input(self, made_of: MadeOf, data: st.DataObject):
        """Changing, adding, dropping or swapping one input changes the key; a uri does not."""
        key, inputs = made_of.key(BBO), made_of.inputs
        more = data.draw(_INPUTS)

        assert key != replace(made_of, inputs=(*inputs, more)).key(BBO)
        if inputs:
            place = data.draw(st.integers(0, len(inputs) - 1))
            change = data.draw(
                st.sampled_from(({"table": "x"}, {"day": DAY.replace(day=1)}, {"sha256": "x"}))
            )
            one = replace(inputs[place], **change)
            moved = replace(inputs[place], uri="s3://elsewhere")

            assert key != replace(made_of, inputs=inputs[1:]).key(BBO)
            assert key != replace(made_of, inputs=put(inputs, place, one)).key(BBO)
            assert key == replace(made_of, inputs=put(inputs, place, moved)).key(BBO)

    def test_code_version(self, monkeypatch: pytest.MonkeyPatch):
        """Another version of the schema's code, or another column, is another key."""
        key, books = MADE_OF.key(BBO), lineage.CODE_VERSIONS["books"]
        wider = replace(BBO, columns=(*BBO.columns, Column("more", "BIGINT", "More.")))
        worded = replace(BBO, description="In other words.")

        assert code_version(BBO).startswith(f"books {books} ")
        assert key != MADE_OF.key(wider)
        assert key != MADE_OF.key(DEPTH)
        assert key == MADE_OF.key(worded)
        monkeypatch.setattr(lineage, "CODE_VERSIONS", lineage.CODE_VERSIONS | {"books": books + 1})
        assert key != MADE_OF.key(BBO)


def put(inputs: tuple[Input, ...], place: int, one: Input) -> tuple[Input, ...]:
    """The inputs with another one in a place."""
    return (*inputs[:place], one, *inputs[place + 1 :])


def test_rows_have_one_hash():
    """The hash of rows is the same in any order of rows and columns, and another for other rows."""
    rows = RAW_TRADES.frame(
        {"exchange": "A", "symbol": "B", "dt": DAY, "status": "usable", "shard": shard}
        for shard in (1, 2)
    )
    mixed = rows.reverse().select(reversed(rows.columns))

    assert rows_sha256(RAW_TRADES, rows) == rows_sha256(RAW_TRADES, mixed)
    assert rows_sha256(RAW_TRADES, rows) != rows_sha256(RAW_TRADES, rows.head(1))
    assert rows_sha256(RAW_TRADES, rows) != rows_sha256(
        RAW_TRADES, rows.with_columns(bytes=pl.lit(1, pl.Int64))
    )


def test_each_instruments_rows_have_the_hash_of_them_alone():
    """To hash the rows of all at once gives the same, also where texts hold what ends a line."""
    rows = RAW_TRADES.frame(
        {"exchange": "A", "symbol": symbol, "dt": DAY, "status": text, "shard": shard}
        for shard, (symbol, text) in enumerate(
            [("B", "x\u2028y"), ("C", "\n"), ("B", "a\x85b"), ("é:", ""), ("C", "\r\n\x0b")]
        )
    )
    alone = {
        f"A:{symbol}": rows_sha256(RAW_TRADES, rows.filter(symbol=symbol))
        for symbol in ("B", "C", "é:")
    }

    assert alone == rows_sha256_of_each(RAW_TRADES, rows)
    assert {} == rows_sha256_of_each(RAW_TRADES, rows.clear())
    assert NO_ROWS_SHA256 == rows_sha256(RAW_TRADES, rows.clear())


def test_commit_names_code_and_inputs():
    """A Delta commit is told the code, and the inputs and the key of each instrument."""
    told = commit_properties(BBO, {BTC: MADE_OF})

    assert code_version(BBO) == told["code_version"]
    assert MADE_OF.key(BBO) in told["made_of"]
    assert "ab" * 32 in told["made_of"]


class TestRecord:
    @pytest.fixture
    def warehouse(self, tmp_path) -> Warehouse:
        """An empty warehouse."""
        made = Warehouse(tmp_path)
        made.prepare()
        return made

    def record(self, warehouse: Warehouse, instruments: list[str], *rows: LineageRow) -> None:
        with writing(warehouse) as connection:
            made = {f"{row.exchange}:{row.symbol}": row for row in rows}
            parts = {(BBO.sql_name, DAY, each): made.get(each) for each in instruments}
            record_lineage(connection, parts)

    def recorded(self, warehouse: Warehouse) -> list[dict[str, Any]]:
        return read_rows(warehouse, LINEAGE, DAY).to_dicts()

    def test_names_everything(self, warehouse: Warehouse):
        """A row names inputs with hash, place and day, the parameters, and what made it, when."""
        self.record(warehouse, [BTC], lineage_row(BBO, DAY, BTC, MADE_OF, "cd"))
        (row,) = self.recorded(warehouse)

        assert (["lake.raw_trades"], ["2024-08-08"], ["ab" * 32], "cd") == (
            row["input_tables"],
            row["input_days"],
            row["input_sha256"],
            row["output_sha256"],
        )
        assert ["s3://lake/trades/1.parquet"] == row["input_uris"]
        assert '{"thresholds": {"silence_factor": 3.0}, "tick": "0.1"}' == row["parameters"]
        assert (code_version(BBO), MADE_OF.key(BBO)) == (row["code_version"], row["made_key"])
        assert isinstance(row["made_at"], datetime)

    def test_the_same_again_stays(self, warehouse: Warehouse):
        """What is made of the same and comes out the same keeps its row, with its time."""
        row = lineage_row(BBO, DAY, BTC, MADE_OF, "cd")
        self.record(warehouse, [BTC], row)
        before = self.recorded(warehouse)
        later = replace(row, made_at=datetime(2030, 1, 1), package_version="99")  # noqa: DTZ001
        self.record(warehouse, [BTC], later)

        assert before == self.recorded(warehouse)

    @pytest.mark.parametrize("changed", [{"output_sha256": "ef"}, {"made_key": "ef"}])
    def test_another_is_replaced(self, warehouse: Warehouse, changed: dict[str, str]):
        """Another output, or another key, takes the place of the old row."""
        row = lineage_row(BBO, DAY, BTC, MADE_OF, "cd")
        self.record(warehouse, [BTC], row)
        self.record(warehouse, [BTC], replace(row, **changed, package_version="99"))
        (found,) = self.recorded(warehouse)

        assert ("99", changed) == (
            found["package_version"],
            {name: found[name] for name in changed},
        )

    def test_only_the_instruments_named(self, warehouse: Warehouse):
        """An instrument without a row loses its old one; those not named keep theirs."""
        self.record(
            warehouse,
            [BTC, ETH],
            *(lineage_row(BBO, DAY, each, MADE_OF, "cd") for each in (BTC, ETH)),
        )
        self.record(warehouse, [BTC])

        assert ["ETH-USDT"] == [row["symbol"] for row in self.recorded(warehouse)]
