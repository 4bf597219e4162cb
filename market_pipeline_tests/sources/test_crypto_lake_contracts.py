from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from market_pipeline.errors import DomainError, LakeFileError, SchemaError
from market_pipeline.sources import crypto_lake_contracts
from market_pipeline.sources.crypto_lake_contracts import read_funding, read_open_interest
from market_pipeline_tests.sources.raw_files import CLIENT_SPELLING, funding, open_interest, shard

NEXT_NS = 1_723_104_000_000_000_000


class TestFunding:
    def test_values(self, tmp_path: Path):
        """All shards in the order of the rows, in either spelling."""
        client = funding(2).rename_columns(
            [CLIENT_SPELLING.get(n, n) for n in funding(2).column_names]
        )
        found = read_funding([shard(tmp_path, 1, funding(2)), shard(tmp_path, 2, client)])

        assert [
            (10, 20, 0.0001, 100.0, 99.5, NEXT_NS),
            (11, 21, 0.0002, 101.0, 100.5, NEXT_NS),
        ] * 2 == (found.rows())

    def test_no_file(self):
        """Without files there is no row, and every column."""
        names = ["ts_origin_ns", "ts_receipt_ns", "rate", "mark_price", "index_price"]
        assert ([*names, "next_funding_ns"], 0) == (
            read_funding([]).columns,
            read_funding([]).height,
        )

    @pytest.mark.parametrize("absent", [math.nan, None, 0.0])
    def test_what_the_venue_does_not_tell(self, tmp_path: Path, absent):
        """Mark, index and time are null then; a price of 0 is no such thing."""
        times = pa.array([absent], pa.float64())
        prices = pa.array([None if absent == 0.0 else absent], pa.float64())
        rows = funding(1, next_funding_time=times, mark_price=prices, index_price=prices)

        assert [(0.0001, None, None, None)] == [
            row[2:] for row in read_funding([shard(tmp_path, 1, rows)]).rows()
        ]

    @pytest.mark.parametrize("unit", [1e9, 1e6, 1e3, 1.0])
    def test_unit_of_time(self, tmp_path: Path, unit):
        """Seconds, milliseconds, microseconds and nanoseconds are told apart by their size."""
        rows = funding(1, next_funding_time=np.array([NEXT_NS / unit]))

        assert [NEXT_NS] == read_funding([shard(tmp_path, 1, rows)])["next_funding_ns"].to_list()

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("rate", math.inf),
            ("rate", math.nan),
            ("mark_price", -1.0),
            ("mark_price", 0.0),
            ("index_price", math.inf),
            ("next_funding_time", -5.0),
            ("next_funding_time", 1e11),
            ("next_funding_time", 9.3e18),
        ],
    )
    def test_a_bad_value(self, tmp_path: Path, column, value):
        """It is refused with its file, row, column and value."""
        values = funding(3)[column].to_numpy().copy()
        values[2] = value
        file = shard(tmp_path, 1, funding(3, **{column: values}))
        with pytest.raises(DomainError) as caught:
            read_funding([file])

        found = caught.value
        assert (str(file), 2, column, repr(value)) == (
            str(found.file),
            found.row,
            found.column,
            found.found,
        )

    def test_a_null_rate(self, tmp_path: Path):
        """A rate that is not there is no rate."""
        file = shard(tmp_path, 1, funding(1, rate=pa.array([None], pa.float64())))
        with pytest.raises(DomainError, match="rate"):
            read_funding([file])

    def test_other_columns(self, tmp_path: Path):
        """A file of another table is refused by its columns."""
        with pytest.raises(SchemaError, match="missing: mark_price"):
            read_funding([shard(tmp_path, 1, open_interest(2))])

    def test_too_many(self, tmp_path: Path, monkeypatch):
        """More rows than may be held are refused before they are read."""
        monkeypatch.setattr(crypto_lake_contracts, "MAX_CONTRACT_ROWS", 3)
        files = [shard(tmp_path, 1, funding(2)), shard(tmp_path, 2, funding(2))]
        with pytest.raises(LakeFileError, match="at most 3 rows"):
            read_funding(files)


class TestOpenInterest:
    def test_values(self, tmp_path: Path):
        """0 is a value."""
        found = read_open_interest([shard(tmp_path, 1, open_interest(2))])

        assert [(10, 20, 0.0), (11, 21, 7.5)] == found.rows()

    @pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
    def test_a_bad_value(self, tmp_path: Path, value):
        """Less than nothing, or what is no number, is refused."""
        file = shard(tmp_path, 1, open_interest(2, open_interest=np.array([1.0, value])))
        with pytest.raises(DomainError) as caught:
            read_open_interest([file])

        assert (1, "open_interest") == (caught.value.row, caught.value.column)
