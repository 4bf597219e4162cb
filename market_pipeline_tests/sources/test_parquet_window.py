"""Raw files that lie sealed are read as plain ones are: the same rows, the same errors."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_pipeline.errors import LakeFileError, SealError
from market_pipeline.security.sealing import seal_in_place
from market_pipeline.security.stored import sealed_path
from market_pipeline.sources import parquet
from market_pipeline.sources.crypto_lake import (
    DELTAS,
    TRADES,
    count_deltas,
    open_shard,
    read_deltas,
    read_raw,
)
from market_pipeline.sources.parquet import read_pieces
from market_pipeline.sources.parquet_window import scan_shard
from market_pipeline_tests.security.keys import use_keys
from market_pipeline_tests.sources.raw_files import deltas, trades

ROWS = 60_000


@pytest.fixture
def ring(tmp_path, monkeypatch):
    return use_keys(monkeypatch, tmp_path / "data", "raw")


def written(path, table: pa.Table, **how):
    pq.write_table(table, path, compression="snappy", **how)
    return path


def random_deltas() -> pa.Table:
    """Deltas that do not compress, so that the file has several segments."""
    chance = np.random.default_rng(3)
    return deltas(ROWS, price=1 + chance.random(ROWS), size=chance.random(ROWS))


def rows_of(files, skip=0):
    parts = list(read_deltas(files, skip))
    columns = ("ts_origin_ns", "sequence_number", "is_bid", "price", "size")
    places = [(part.file, part.first_row, part.price.size) for part in parts]
    return places, [np.concatenate([getattr(part, name) for part in parts]) for name in columns]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_the_same_rows(tmp_path, ring, monkeypatch, streamed):
    """Batches, rows and footers are those of the plain file, from its start and from inside."""
    files = [
        written(tmp_path / "1.snappy.parquet", random_deltas(), row_group_size=9_000),
        written(tmp_path / "2.snappy.parquet", random_deltas(), use_dictionary=["size"]),
    ]
    if streamed:
        monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 1 << 18)

    def found():
        return count_deltas(files), *(rows_of(files, skip) for skip in (0, 12_345))

    before = found()
    for file in files:
        seal_in_place(file, ring, "raw")
    counts, *read = found()
    assert before[0] == counts
    assert [places for places, _ in before[1:]] == [places for places, _ in read]
    for (_, ours), (_, theirs) in zip(before[1:], read, strict=True):
        assert all(map(np.array_equal, ours, theirs))


def test_rows_are_looked_for(tmp_path, ring):
    """A scan of a sealed file finds a row by its number, a row group at a time."""
    file = written(tmp_path / "1.snappy.parquet", random_deltas(), row_group_size=9_000)
    seal_in_place(file, ring, "raw")
    opened, _ = open_shard(file, DELTAS)
    columns = ["sequence_number"]
    parts = [part.collect() for part in scan_shard(opened, file, columns, "row")]
    found = pl.concat(parts)
    assert 7 == len(parts)
    assert list(range(ROWS)) == found["row"].to_list()
    assert (500 + np.arange(ROWS) // 2).tolist() == found["sequence_number"].to_list()


def test_sealed_while_it_is_read(tmp_path, ring):
    """Who has begun to read a plain file reads on when another process seals it."""
    scanned, read = (
        written(tmp_path / f"{number}.snappy.parquet", random_deltas(), row_group_size=9_000)
        for number in (1, 2)
    )
    opened, _ = open_shard(scanned, DELTAS)
    rows = 0
    for part in scan_shard(opened, scanned, ["price"]):
        seal_in_place(scanned, ring, "raw")
        rows += part.collect().height
    opened, _ = open_shard(read, DELTAS)
    pieces = read_pieces(opened, read, ["price"], 9_000)
    first, _ = next(pieces)
    seal_in_place(read, ring, "raw")
    assert (ROWS, 0, 6) == (rows, first, len([*pieces]))


def test_no_row_group(tmp_path, ring):
    """A file without a row group, as Polars writes one without rows, is an empty frame."""
    file = tmp_path / "1.snappy.parquet"
    pl.from_arrow(deltas(0)).write_parquet(file)
    opened = pq.ParquetFile(file)
    assert opened.metadata.num_row_groups == 0
    names = opened.schema_arrow.names[:2]
    plain = [each.collect() for each in scan_shard(opened, file, names, "row")]
    seal_in_place(file, ring, "raw")
    sealed = [each.collect() for each in scan_shard(opened, file, names, "row")]
    assert (1, ["row", *names]) == (len(sealed), sealed[0].columns)
    assert plain[0].equals(sealed[0])


def test_texts_and_nulls(tmp_path, ring):
    """Columns of text, and their nulls, are the same."""
    file = written(tmp_path / "1.snappy.parquet", trades(4, side=["buy", None, "sell", "buy"]))

    def found():
        (batch,) = read_raw([file], TRADES, ["side", "price"])
        return batch.arrays["side"].tolist(), batch.nulls["side"].tolist()

    before = found()
    seal_in_place(file, ring, "raw")
    assert before == found()


def test_a_changed_segment(tmp_path, ring):
    """What was changed inside is an error that names the file, and no row behind it is given."""
    file = written(tmp_path / "1.snappy.parquet", random_deltas(), row_group_size=9_000)
    seal_in_place(file, ring, "raw")
    sealed = sealed_path(file)
    content = bytearray(sealed.read_bytes())
    content[len(content) // 2] ^= 1
    sealed.write_bytes(content)
    with pytest.raises(SealError, match="not as it was sealed") as caught:
        rows_of([file])
    assert str(sealed) == caught.value.file


def test_a_damaged_file_that_was_sealed(tmp_path, ring):
    """Damage from before it was sealed is found as in a plain file, under its plain name."""
    file = tmp_path / "1.snappy.parquet"
    file.write_bytes(b"PAR1 and no more")
    seal_in_place(file, ring, "raw")
    with pytest.raises(LakeFileError, match="16 bytes") as caught:
        open_shard(file, DELTAS)
    assert str(file) == caught.value.file
