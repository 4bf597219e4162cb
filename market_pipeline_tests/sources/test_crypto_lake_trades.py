from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from market_pipeline.errors import DomainError, LakeFileError
from market_pipeline.sources import crypto_lake_trades
from market_pipeline.sources.crypto_lake_trades import locate_trades, read_trade_times, read_trades
from market_pipeline_tests.sources.raw_files import CLIENT_SPELLING, shard, trades


def base_of(column: np.ndarray) -> object:
    """What a column is a view of."""
    base: object = column
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return base


class TestTrades:
    def test_values(self, tmp_path: Path):
        """All shards are one set of columns, in the order of the rows."""
        files = [shard(tmp_path, 1, trades(2)), shard(tmp_path, 2, trades(4))]
        found = read_trades(files)

        assert [10, 11, 10, 11, 12, 13] == found.ts_origin_ns.tolist()
        assert [20, 21, 20, 21, 22, 23] == found.ts_receipt_ns.tolist()
        assert [0.5, 1.5, 0.5, 1.5, 2.5, 3.5] == found.quantity.tolist()
        assert [True, False, True, False, True, False] == found.is_buy.tolist()
        assert 61_803.0 == found.price[-1]

    def test_ids(self, tmp_path: Path):
        """They are read where they are asked for, and a null is refused then."""
        files = [shard(tmp_path, 1, trades(2, id=[7, 9]))]

        assert read_trades(files).id is None
        assert [7, 9] == read_trades(files, with_ids=True).id.tolist()
        null = shard(tmp_path, 2, trades(2, id=pa.array([7, None], pa.int64())))
        assert 2 == read_trades([null]).price.size
        with pytest.raises(DomainError, match="A value is null"):
            read_trades([null], with_ids=True)

    def test_places(self, tmp_path: Path):
        """A trade of the day is in the shard and row that it was read from; shards may be empty."""
        files = [shard(tmp_path, at, trades(rows)) for at, rows in ((1, 2), (2, 0), (3, 4))]

        assert [(files[2], 3), (files[0], 0), (files[2], 0)] == locate_trades(files, [5, 0, 2])

    def test_times_are_those_of_the_trades(self, tmp_path: Path):
        """They are read alone, and what is refused of the other columns is refused there too."""
        files = [shard(tmp_path, 1, trades(2)), shard(tmp_path, 2, trades(4))]
        whole, times = read_trades(files), read_trade_times(files)
        bad = shard(tmp_path, 3, trades(4, side=["buy", "sell", "BUY", "sell"]))

        assert whole.ts_origin_ns.tolist() == times.ts_origin_ns.tolist()
        assert whole.ts_receipt_ns.tolist() == times.ts_receipt_ns.tolist()
        with pytest.raises(DomainError, match="A trade's side is unknown"):
            read_trade_times([*files, bad])

    def test_is_mapped(self, tmp_path: Path):
        """The columns are pages of a file without a name: nothing is left in the folder."""
        found = read_trades([shard(tmp_path / "lake", 1, trades(4))], tmp_path)

        assert [tmp_path / "lake"] == list(tmp_path.iterdir())
        assert all(isinstance(base_of(column), mmap.mmap) for column in (found.price, found.is_buy))
        assert [10, 11, 12, 13] == found.ts_origin_ns.tolist()

    def test_no_file(self):
        """Without files there are no trades, in arrays of the same types."""
        found = read_trades([])

        assert (0, np.int64, np.float64, np.bool_) == (
            found.price.size,
            found.ts_receipt_ns.dtype,
            found.price.dtype,
            found.is_buy.dtype,
        )

    def test_unknown_side(self, tmp_path: Path):
        """A side other than buy and sell is refused, also in another case."""
        path = shard(tmp_path, 1, trades(4, side=["buy", "sell", "BUY", "sell"]))
        with pytest.raises(DomainError) as caught:
            read_trades([path])

        assert (2, "side", "buy or sell", "'BUY'") == (
            caught.value.row,
            caught.value.column,
            caught.value.expected,
            caught.value.found,
        )
        assert f"A trade's side is unknown (file={path}, row=2" in str(caught.value)

    @pytest.mark.parametrize("name", ["price", "amount"])
    def test_nothing_traded(self, tmp_path: Path, name):
        """A trade at no price or of no amount is refused."""
        path = shard(tmp_path, 1, trades(4, **{name: [1.0, 1.0, 1.0, 0.0]}))
        with pytest.raises(DomainError) as caught:
            read_trades([path])

        assert (3, name) == (caught.value.row, caught.value.column)
        assert ("a finite number above 0", "0.0") == (caught.value.expected, caught.value.found)

    def test_column_of_the_client_s_spelling_is_named_as_in_the_file(self, tmp_path: Path):
        """A bad amount in a file of the client's spelling is reported as its `quantity`."""
        rows = trades(2, amount=[1.0, -1.0])
        names = [CLIENT_SPELLING.get(name, name) for name in rows.column_names]
        with pytest.raises(DomainError) as caught:
            read_trades([shard(tmp_path, 1, rows.rename_columns(names))])

        assert "quantity" == caught.value.column


def test_more_trades_than_can_be_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Too many trades are refused, and the shard is named."""
    monkeypatch.setattr(crypto_lake_trades, "MAX_TRADES", 6)
    files = [shard(tmp_path, number, trades(4)) for number in (1, 2)]
    assert 4 == read_trades(files[:1]).price.size
    with pytest.raises(LakeFileError, match="more trades than may be held") as error:
        read_trades(files)
    assert str(files[1]) == error.value.file
