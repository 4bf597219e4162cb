from __future__ import annotations

import io
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_pipeline.errors import LakeFileError, MarketPipelineError
from market_pipeline.sources import page_headers, parquet, parquet_pages
from market_pipeline.sources.crypto_lake import (
    DELTAS,
    TRADES,
    open_shard,
    read_deltas,
    read_raw,
)
from market_pipeline.sources.crypto_lake_trades import read_trades
from market_pipeline.sources.parquet import read_pieces
from market_pipeline.sources.parquet_pages import check_footer, check_pages
from market_pipeline_tests.conftest import printed_by
from market_pipeline_tests.sources.hostile_files import (
    MEGABYTE,
    prefixed_text,
    shared_text,
    wide_pages,
)
from market_pipeline_tests.sources.raw_files import deltas, shard, snapshots, trades


@pytest.mark.parametrize("make", [deltas, trades, snapshots])
@pytest.mark.parametrize("settings", [{}, {"data_page_version": "2.0"}, {"use_dictionary": False}])
def test_every_page_is_counted(tmp_path: Path, make, settings):
    """Pages of a column and their small headers are what its footer says."""
    paged = {"data_page_size": 4_096, "row_group_size": 2_000, "write_statistics": False}
    file = shard(tmp_path, 1, make(5_000), **paged, **settings)
    metadata = pq.read_metadata(file)
    for group in range(3):
        for column in range(metadata.num_columns):
            told = metadata.row_group(group).column(column).total_uncompressed_size
            found = check_pages(file, metadata, group, [column], 0)
            assert 0 < told - found.all_bytes < 30 * (told // 4_096 + 2)
            assert 0 < found.largest_bytes <= found.all_bytes


def test_pages_that_are_too_large_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What unpacks to more than may be held is refused before it is unpacked."""
    file = wide_pages(tmp_path / "1.parquet", rows=20_000)
    assert 20_000 == sum(batch.price.size for batch in read_deltas([file]))
    monkeypatch.setattr(parquet_pages, "PAGES_BYTES", 500_000)
    with pytest.raises(LakeFileError, match="unpacks to more") as error:
        list(read_deltas([file]))
    assert ("pages of at most 500000 bytes together", 0) == (error.value.expected, error.value.row)


def test_a_footer_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is refused by what its last bytes say, and nobody parses it."""
    file = shard(tmp_path, 1, deltas(60))
    monkeypatch.setattr(parquet_pages, "FOOTER_BYTES", 500)
    monkeypatch.setattr(pq, "ParquetFile", None)
    with pytest.raises(LakeFileError, match="footer is longer") as error:
        open_shard(file, DELTAS)
    assert "a footer of at most 500 bytes" == error.value.expected
    assert 500 < int(error.value.found.split()[0]) < file.stat().st_size


def test_a_file_of_many_columns(tmp_path: Path):
    """Arrow is asked for the schema once, and not for each column of it."""
    file = shard(tmp_path, 1, snapshots(3))

    class Asked(pq.ParquetFile):
        times = 0

        @property
        def schema_arrow(self) -> pa.Schema:
            Asked.times += 1
            return super().schema_arrow

    with Asked(file) as opened:
        ((_, columns),) = read_pieces(opened, file, opened.schema.names, 10)
    assert (len(opened.schema.names), 1) == (len(columns), Asked.times)


def test_a_footer_of_other_rows(tmp_path: Path):
    """Rows that the pages do not hold are refused, whatever the footer says."""
    file = shard(tmp_path, 1, deltas(600))
    other = pq.read_metadata(shard(tmp_path, 2, deltas(602)))
    with pytest.raises(LakeFileError, match="pages of 600 values in a row group of 602 rows"):
        check_pages(file, other, 0, [0], 0)


def test_headers_are_read_once_while_the_file_is_the_same(tmp_path: Path, monkeypatch):
    """Each column once, but of a file that changed since, or just now, whenever they are asked."""
    file = shard(tmp_path, 1, deltas(64))
    metadata, read = pq.read_metadata(file), page_headers.read_pages
    asked: list[int] = []

    def counted(raw: IO[bytes], start: int, end: int) -> page_headers.Pages:
        asked.append(start)
        return read(raw, start, end)

    monkeypatch.setattr(page_headers, "read_pages", counted)
    os.utime(file, (0, 5))
    counts = []
    for changed_s, is_settled, columns in (
        (None, True, [0, 1]),
        (None, True, [0, 1, 2]),
        (5, False, [0]),  # just now, though its time is as before
        (6, True, [0]),
        (None, False, [0]),
        (None, False, [0]),
    ):
        if changed_s is not None:
            os.utime(file, (0, changed_s))
        monkeypatch.setattr(parquet_pages, "_SETTLED_NS", -1 if is_settled else 1 << 60)
        check_pages(file, metadata, 0, columns, 0)
        counts.append(len(asked))
    assert [2, 3, 4, 5, 6, 7] == counts

    one, other, both = (check_pages(file, metadata, 0, each, 0) for each in ([0], [1], [1, 0]))
    assert both == (one.all_bytes + other.all_bytes, one.largest_bytes + other.largest_bytes)


def test_damaged_headers(tmp_path: Path):
    """Whatever stands in place of a page header, it is either told as damage or read."""
    file = shard(tmp_path, 1, deltas(64))
    metadata, whole = pq.read_metadata(file), file.read_bytes()
    random = np.random.default_rng(5)
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        at = int(random.integers(4, 40))
        damaged[at : at + 8] = random.bytes(8)
        file.write_bytes(damaged)
        try:
            check_pages(file, metadata, 0, [0], 7)
        except LakeFileError as error:
            refused += 1
            assert (7, "timestamp") == (error.row, error.column)
    assert 50 < refused < 400


@pytest.mark.parametrize("streamed", [False, True])
def test_a_text_that_many_rows_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streamed: bool
):
    """It is refused with its row, without a copy for each row, by either way of reading."""
    if streamed:
        monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 0)
    file = shared_text(tmp_path / "1.parquet", megabytes=2)
    assert file.stat().st_size < MEGABYTE
    with pytest.raises(LakeFileError, match="longer than any of its column") as error:
        read_trades([file])
    assert (0, "side", "at most 1024 bytes") == (
        error.value.row,
        error.value.column,
        error.value.expected,
    )
    assert len(str(error.value)) < 1_000


def test_texts_that_begin_like_those_before(tmp_path: Path):
    """An encoding by which a page can become any size is refused for texts."""
    with pytest.raises(LakeFileError, match="DELTA_BYTE_ARRAY"):
        read_trades([prefixed_text(tmp_path / "1.parquet")])


def test_a_footer_that_contradicts_itself():
    """It is refused whichever of the columns it is about, here by a codec that there is none of."""
    file = io.BytesIO()
    pq.write_table(pa.table({name: [1, 2, 3] for name in "abc"}), file)
    whole = file.getvalue()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    refused: Counter[str] = Counter()
    for at in range(footer, len(whole) - 8):
        damaged = whole[:at] + bytes([2 * 21]) + whole[at + 1 :]
        try:
            parquet = pq.ParquetFile(io.BytesIO(damaged))
        except (pa.ArrowException, OSError, UnicodeError):
            continue
        try:
            check_footer(parquet, len(damaged))
        except (pa.ArrowException, OSError, UnicodeError) as error:
            refused[f"{error}"] += 1
    assert 3 == sum(times for text, times in refused.items() if "compression codec" in text)


def test_columns_that_nobody_reads(tmp_path: Path):
    """What is wrong with a column does not matter to who reads the others."""
    file = prefixed_text(tmp_path / "1.parquet")
    prices = [batch.arrays["price"].size for batch in read_raw([file], TRADES, ["price"])]
    assert 2_000 == sum(prices)


def read_damaged_footers(folder: Path) -> Counter[str]:
    """How often a footer of which a few bytes were changed was read, refused, or met otherwise."""
    file = shard(folder, 1, trades(64))
    whole = file.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    random = np.random.default_rng(1)
    met: Counter[str] = Counter()
    for _ in range(1_000):
        damaged = bytearray(whole)
        for at in random.integers(footer, len(whole) - 8, random.integers(1, 4)).tolist():
            damaged[at] = int(random.integers(256))
        file.write_bytes(damaged)
        try:
            read_trades([file])
            met["read"] += 1
        except MarketPipelineError:
            met["refused"] += 1
        except Exception as error:
            met[repr(error)] += 1
    return met


@pytest.mark.slow
def test_damaged_footers(tmp_path: Path):
    """They are read or refused, and none ends the process, as some would within Arrow."""
    assert {"read", "refused"} == set(printed_by(__name__, tmp_path))


if __name__ == "__main__":
    json.dump(read_damaged_footers(Path(sys.argv[1])), sys.stdout)
