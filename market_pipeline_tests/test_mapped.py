from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.mapped import ColumnWriter, map_columns, nameless_file

TYPES = [np.int64, np.bool_, np.float64]


def columns_of(rows: int) -> list[np.ndarray]:
    number = np.arange(rows)
    return [number, number % 3 == 0, number / 7]


class TestColumns:
    @given(
        cuts=st.lists(st.integers(0, 20), min_size=1, max_size=5).map(sorted),
        spare=st.integers(0, 9),
        offset=st.sampled_from([0, 8, 192]),
    )
    def test_come_back(self, cuts: list[int], spare: int, offset: int):
        """Whatever parts they are written in, and whatever room is left, they are mapped alike."""
        written = columns_of(cuts[-1])
        most = cuts[-1] + spare
        with nameless_file(None) as file:
            columns = ColumnWriter(file, TYPES, most, offset)
            for start, end in pairwise([0, *cuts]):
                columns.add([column[start:end] for column in written])
            found = map_columns(file, TYPES, most, columns.rows, offset)

        assert cuts[-1] == columns.rows
        for expected, column in zip(written, found, strict=True):
            assert expected.dtype == column.dtype
            assert expected.tolist() == column.tolist()
            assert not column.size or not column.flags.writeable

    def test_every_second_value(self):
        """A column that does not lie in one piece is written as its values say."""
        with nameless_file(None) as file:
            columns = ColumnWriter(file, [np.int64], 4)
            columns.add([np.arange(8)[::2]])
            (found,) = map_columns(file, [np.int64], 4, 4)

        assert [0, 2, 4, 6] == found.tolist()

    def test_too_many(self):
        """More rows than there is room for are refused, and nothing is written over."""
        with nameless_file(None) as file:
            columns = ColumnWriter(file, TYPES, 4)
            columns.add(columns_of(3))
            with pytest.raises(ValueError, match="more than the 4 rows"):
                columns.add(columns_of(2))
            found = map_columns(file, TYPES, 4, columns.rows)

        assert [column.tolist() for column in columns_of(3)] == [each.tolist() for each in found]

    def test_too_short(self, tmp_path: Path):
        """A file that holds fewer rows than it is said to is refused."""
        path = tmp_path / "columns"
        path.write_bytes(b"x" * 31)
        with path.open("rb") as file, pytest.raises(ValueError, match="smaller than requested"):
            map_columns(file, [np.int64], 4, 4)


def test_nameless(tmp_path: Path):
    """Nobody else finds the file, and only its owner may read it."""
    with nameless_file(tmp_path) as file:
        mode = os.fstat(file.fileno()).st_mode & 0o777
        listed = list(tmp_path.iterdir())
    assert ([], 0o600) == (listed, mode)
