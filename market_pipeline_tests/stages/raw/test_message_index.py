from __future__ import annotations

import stat
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.boundaries import FirstRows, first_rows
from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import LakeFileError
from market_pipeline.quality import raw_scan
from market_pipeline.sources.crypto_lake import read_times
from market_pipeline.stages.raw import message_index
from market_pipeline.stages.raw.message_index import day_messages, forget_messages, keep_messages
from market_pipeline.stages.raw.profile import profile_day
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.staging import sweep_staging
from market_pipeline_tests.stages.days import BTC, DAY, ETH, delta_rows, raw_day, write_day

SHA256 = ["a" * 64, "b" * 64]
FEED = FirstRows(*(np.arange(5, dtype=np.int64) * k for k in (1, 2, 3, 4)))


def shown(messages: FirstRows) -> list[list[int]]:
    return [column.tolist() for column in messages]


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "data")


def keep(warehouse: Warehouse, instrument: Instrument = BTC) -> None:
    """Keeps the feed, in two parts."""
    with keep_messages(warehouse, instrument, DAY, SHA256, 9) as index:
        for part in (slice(0, 2), slice(2, None)):
            index.add(FirstRows._make(column[part] for column in FEED))


def kept_file(warehouse: Warehouse) -> Path:
    (path,) = warehouse.staging_dir.glob("*.messages")
    return path


class TestKept:
    def test_comes_back(self, warehouse: Warehouse):
        """What was kept of the same raw files comes back, and no raw file is opened."""
        keep(warehouse)
        found = day_messages(warehouse, BTC, DAY, [Path("nowhere")], SHA256)

        assert shown(FEED) == shown(found)
        assert 0o600 == stat.S_IMODE(kept_file(warehouse).stat().st_mode)

    @pytest.mark.parametrize("sha256", [SHA256[:1], SHA256[::-1], []])
    def test_of_other_files(self, warehouse: Warehouse, sha256):
        """Of other raw files, or of these in another order, it is not believed: they are read."""
        keep(warehouse)
        with pytest.raises(LakeFileError):
            day_messages(warehouse, BTC, DAY, [Path("nowhere")], sha256)

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_damaged(self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
        """Cut, longer, or with any bit changed, it gives the same messages or is not believed."""
        warehouse = Warehouse(tmp_path_factory.mktemp("data"))
        keep(warehouse)
        whole = kept_file(warehouse).read_bytes()
        at = data.draw(st.integers(0, len(whole) - 1))
        changed = whole[:at] + bytes([whole[at] ^ (1 << data.draw(st.integers(0, 7)))])
        bad = data.draw(
            st.sampled_from([whole[:at], changed + whole[at + 1 :], whole + whole[-32:]])
        )
        kept_file(warehouse).write_bytes(bad)
        try:
            found = day_messages(warehouse, BTC, DAY, [Path("nowhere")], SHA256)
        except LakeFileError:
            return
        assert shown(FEED) == shown(found)
        assert len(bad) >= len(whole)

    def test_forgotten(self, warehouse: Warehouse):
        """It is gone when the day needs it no more, and what a killed run left is swept."""
        for each in (BTC, ETH):
            keep(warehouse, each)
        forget_messages(warehouse, [BTC], DAY)
        left = kept_file(warehouse)
        swept = sweep_staging(warehouse, timedelta.min)

        assert [left] == swept


class TestOfTheProfile:
    @pytest.mark.parametrize("shards", [1, 3])
    @pytest.mark.parametrize("batch_rows", [7, 1 << 18])
    def test_is_what_the_files_say(
        self, lake: Path, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, shards, batch_rows
    ):
        """The profile keeps what a reading of the delta files gives, wherever they are cut."""
        monkeypatch.setattr(raw_scan, "_BATCH_ROWS", batch_rows)
        files = write_day(lake, BTC, shards=shards)
        raw = raw_day(lake, BTC)
        profile_day(raw, [BTC], warehouse)
        _, sha256 = raw.deltas.files_of(BTC)
        with patch.object(message_index, "read_times", side_effect=AssertionError):
            found = day_messages(warehouse, BTC, DAY, files, sha256)

        assert shown(first_rows(read_times(files))) == shown(found)
        assert found.row.size > 1_000
        assert all(later > earlier for earlier, later in pairwise(found.row.tolist()))

    def test_a_row_without_a_time(self, lake: Path, warehouse: Warehouse):
        """Where a time or number is null nothing is kept: whoever reads the files says so."""
        rows = delta_rows()
        column = rows["receipt_timestamp"].to_pylist()
        column[100] = None
        at = rows.schema.get_field_index("receipt_timestamp")
        rows = rows.set_column(at, "receipt_timestamp", pa.array(column, pa.int64()))
        write_day(lake, BTC, deltas=rows)
        profile_day(raw_day(lake, BTC), [BTC], warehouse)

        assert [] == list(warehouse.staging_dir.glob("*.messages"))
