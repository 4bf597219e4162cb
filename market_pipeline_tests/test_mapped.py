from __future__ import annotations

import tempfile
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.mapped import ColumnWriter, map_columns, mapped, mapped_zeros

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
        with tempfile.TemporaryFile() as file:
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
        with tempfile.TemporaryFile() as file:
            columns = ColumnWriter(file, [np.int64], 4)
            columns.add([np.arange(8)[::2]])
            (found,) = map_columns(file, [np.int64], 4, 4)

        assert [0, 2, 4, 6] == found.tolist()

    def test_too_many(self):
        """More rows than there is room for are refused, and nothing is written over."""
        with tempfile.TemporaryFile() as file:
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


class TestMapped:
    def test_parts(self):
        """Parts of any length are one set of columns; of no part they are empty, of their types."""
        parts = ([column[start:end] for column in columns_of(5)] for start, end in ((0, 2), (2, 5)))
        found, none = mapped(parts, TYPES, 9), mapped([], TYPES, 0)

        assert [column.tolist() for column in columns_of(5)] == [each.tolist() for each in found]
        assert [(0, dtype) for dtype in TYPES] == [(each.size, each.dtype) for each in none]

    def test_nameless(self, tmp_path: Path):
        """Nobody else finds the file, and only its owner may read it."""
        listed, modes = [], []

        def parts():
            yield columns_of(2)
            listed.extend(tmp_path.iterdir())
            for opened in Path("/proc/self/fd").iterdir():
                with suppress(OSError):
                    if str(opened.readlink()).startswith(str(tmp_path)):
                        modes.append(opened.stat().st_mode & 0o777)

        mapped(parts(), TYPES, 2, tmp_path)
        assert ([], [0o600]) == (listed, modes)


class TestMappedZeros:
    @pytest.mark.parametrize("rows", [0, 1, 5, 1_000])
    def test_filled(self, rows: int):
        """They are zeros of their types, and hold whatever is written to any of them."""
        found = mapped_zeros(TYPES, rows)
        assert [(rows, dtype, 0) for dtype in TYPES] == [
            (each.size, each.dtype, np.count_nonzero(each)) for each in found
        ]
        for column, values in zip(found, columns_of(rows), strict=True):
            column[::-1] = values

        assert [column[::-1].tolist() for column in columns_of(rows)] == [
            each.tolist() for each in found
        ]

    def test_a_full_disk(self, tmp_path: Path, full_at):
        """The room is taken at once: a full disk is an error, and not a page that cannot be had."""
        with full_at(1_000), pytest.raises(OSError, match="File too large"):
            mapped_zeros(TYPES, 1_000, tmp_path)
