from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from market_pipeline.books.intervals import Intervals
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.scale import Scale
from market_pipeline.books.state import BboRows
from market_pipeline.books.tables import BOOK_FILES
from market_pipeline.sources.crypto_lake import DELTAS
from market_pipeline.stages.rebuild.raw_files import RawFiles
from market_pipeline.stages.rebuild.writer import BookWriter
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.stages.days import BTC, DAY, START_NS

STEP = Scale(1, 1)


def rows(first: int, count: int, flags: int = 0) -> BboRows:
    number = np.arange(first, first + count, dtype=np.int64)
    columns = [START_NS + number, START_NS + number, number, *[number + 1] * 4]
    return BboRows(*columns, np.full(count, flags, np.uint16), np.full(count, fill_value=True))


def keyframe(kind: str = "keyframe") -> Keyframe:
    return Keyframe(kind, START_NS, START_NS, 1, 1, 0, *[np.array([1, 1])] * 4, 1, 1)


@pytest.fixture(params=[False, True], ids=["one thread", "overlapping"])
def files(request, warehouse: Warehouse) -> Callable[..., BookWriter]:
    """Makes the files of an instrument's day, behind finished ones if there are any."""

    def make(finished=None) -> BookWriter:
        raw = RawFiles(BTC, DAY, DELTAS, [], [], [], [], STEP, STEP, warehouse)
        return BookWriter(raw, Intervals(BTC, DAY, STEP), finished, overlap=request.param)

    return make


def numbers(parts) -> list[int]:
    """The sequence numbers in the files of a table, part after part."""
    frames = [pl.read_parquet(part.path, hive_partitioning=False) for part in parts]
    return pl.concat(frames)["sequence_number"].to_list()


class TestParts:
    def test_a_table_has_a_part_where_it_has_rows(self, files):
        """Parts are numbered by the keyframes they end with; a table without rows leaves one out.

        The last part holds the intervals, and a table without any row all day is an empty file.
        """
        with files() as output:
            output.write(rows(0, 3, flags=1))
            output.write(keyframe())
            output.finish_part()
            output.write(keyframe())
            output.finish_part()
            output.write(rows(3, 2))
            output.write(keyframe("closing"))
            output.finish_part(last=True)
        parts = {
            name: [(part.part, part.rows) for part in given] for name, given in output.files.items()
        }

        assert parts == {
            "books.bbo": [(0, 3), (2, 2)],
            "books.depth": [(2, 0)],
            "books.checkpoints": [(0, 1), (1, 1), (2, 1)],
            "books.intervals": [(2, 1)],
        }
        assert numbers(output.files["books.bbo"]) == [0, 1, 2, 3, 4]
        assert {table.sql_name for table in BOOK_FILES} == set(parts)

    def test_goes_on_behind_finished_parts(self, files):
        """Given the finished parts of a killed run, it counts on from them and keeps them first."""
        with files() as output:
            output.write(rows(0, 3))
            output.write(keyframe())
            output.finish_part()
        with files(output.files) as resumed:
            resumed.write(rows(3, 2))
            resumed.write(keyframe("closing"))
            resumed.finish_part(last=True)

        assert [part.part for part in resumed.files["books.bbo"]] == [0, 1]
        assert numbers(resumed.files["books.bbo"]) == [0, 1, 2, 3, 4]
        assert [part.part for part in output.files["books.bbo"]] == [0]


class TestFailure:
    def test_the_part_under_way_goes_and_finished_ones_stay(self, warehouse: Warehouse, files):
        """What a full disk or a kill signal interrupts is gone; a later run begins behind it."""
        with pytest.raises(ZeroDivisionError), files() as output:
            output.write(rows(0, 3))
            output.write(keyframe())
            output.finish_part()
            output.write(rows(3, 2))
            raise ZeroDivisionError
        finished = {part.path for parts in output.files.values() for part in parts}

        assert finished == set(warehouse.staging_dir.iterdir())
        assert len(finished) == 2

    def test_what_the_writer_raises_is_raised(self, warehouse: Warehouse, files):
        """An error in the background ends the block, and its part leaves nothing."""
        broken = rows(0, 2)._replace(flags=np.zeros(1, np.uint16))
        with pytest.raises(ValueError, match="length"), files() as output:
            output.write(broken)
            output.finish_part()

        assert list(warehouse.staging_dir.iterdir()) == []

    def test_discarded(self, warehouse: Warehouse, files):
        """Where the raw data turns out bad, finished parts go too, also if some are gone."""
        with files() as output:
            output.write(rows(0, 3))
            output.write(keyframe())
            output.finish_part()
            output.files["books.bbo"][0].path.unlink()
            output.discard()

        assert list(warehouse.staging_dir.iterdir()) == []
