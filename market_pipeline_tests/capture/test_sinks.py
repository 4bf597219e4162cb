"""What sinks leave behind: whole files and commits, with every row once."""

from __future__ import annotations

import errno
import re
import resource
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from msgspec import Struct

from market_pipeline.capture import sinks
from market_pipeline.capture.sinks import DeltaTables, ParquetParts, sink_of
from market_pipeline.errors import SettingsError

ROOT = Path(__file__).parents[2]


class Row(Struct):
    symbol: str
    price: float | None


class Wider(Struct):
    symbol: str
    price: float | None
    size: int


ROWS = [Row("X", 1.5), Row("X", None)]


def modes(folder: Path) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}


def test_json_lines_are_continued(tmp_path):
    """A second run appends; files are for their owner only."""
    for _ in range(2):
        sink = sink_of("jsonl", tmp_path / "new", 60.0)
        sink.write("rows", ROWS[:1])
        sink.close()
    file = tmp_path / "new" / "rows.jsonl"
    assert (2, {0o600}, 1) == (len(file.read_text().splitlines()), modes(tmp_path), sink.commits)


def test_json_lines_are_whole_on_a_full_disk(tmp_path):
    """Lines for which there is no room are an error, and none of them is left half written."""
    sink = sink_of("jsonl", tmp_path, 60.0)
    sink.write("rows", ROWS)
    before = (tmp_path / "rows.jsonl").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 40, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            sink.write("rows", ROWS * 9)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert before == (tmp_path / "rows.jsonl").read_bytes()
    sink.write("rows", ROWS)
    assert before * 2 == (tmp_path / "rows.jsonl").read_bytes()
    sink.close()


class TestDelta:
    def test_rows_are_appended_in_commits(self, tmp_path):
        """What is gathered is one commit, a second run appends, later columns are added."""
        for rows in (ROWS, [Wider("Y", 2.0, 7)]):
            sink = sink_of("delta", tmp_path, 60.0)
            for row in rows:
                sink.write("rows", [row])
            assert 0 == sink.commits
            sink.close()
            assert (1, 0) == (sink.commits, sink.failures)
        table = DeltaTable(tmp_path / "rows")
        found = pl.read_delta(str(tmp_path / "rows")).sort("symbol", "price", nulls_last=True)
        assert ["X", "X", "Y"] == found["symbol"].to_list()
        assert [1.5, None, 2.0] == found["price"].to_list()
        assert [None, None, 7] == found["size"].to_list()
        assert (2, {0o600}) == (len(table.file_uris()), modes(tmp_path))

    def test_each_write_once_they_are_due(self, tmp_path):
        """After its seconds a sink commits with each write, and every row is there once."""
        sink = DeltaTables(tmp_path, 0.0)
        for _ in range(3):
            sink.write("rows", ROWS)
        sink.close()
        assert (3, 6) == (sink.commits, pl.read_delta(str(tmp_path / "rows")).height)


@pytest.mark.parametrize("kind", [ParquetParts, DeltaTables])
def test_what_cannot_be_written_is_tried_again(tmp_path, kind):
    """Rows that the system refuses stay, are counted as a failure, and come with the next ones."""
    in_the_way = tmp_path / "rows"
    in_the_way.write_text("")
    sink = kind(tmp_path, 0.0)
    sink.write("rows", ROWS)
    in_the_way.unlink()
    sink.write("rows", ROWS[:1])
    read = pl.read_parquet(list(in_the_way.glob("*.parquet")))
    assert (1, 1, 3) == (sink.commits, sink.failures, read.height)


def test_what_raised_is_not_gathered(tmp_path, monkeypatch):
    """Rows that a full sink raises at are left out, as the one who gave them is told, once too many
    wait: its memory is bounded however often it is tried, and those it took are written.
    """
    monkeypatch.setattr(sinks, "_PART_ROWS", 2)
    monkeypatch.setattr(sinks, "_MOST_ROWS", 6)
    in_the_way = tmp_path / "rows"
    in_the_way.write_text("")
    sink, taken = ParquetParts(tmp_path, 60.0), []
    for n in range(20):
        with suppress(OSError):
            sink.write("rows", [Row(f"{n}", None)])
            taken.append(f"{n}")
    in_the_way.unlink()
    sink.close()
    assert taken == pl.read_parquet(list(in_the_way.glob("*.parquet")))["symbol"].to_list()
    assert 5 == len(taken)


@pytest.mark.parametrize(
    ("kind", "last_step"),
    [(ParquetParts, "layout.sync"), (DeltaTables, "layout.sync"), (DeltaTables, "delta.sync")],
    ids=["parquet, renamed", "delta, not committed", "delta, committed"],
)
def test_an_error_after_rows_are_there_writes_none_twice(tmp_path, monkeypatch, kind, last_step):
    """The next try has every row once, and leaves no part that is of no table."""
    sink = kind(tmp_path, 0.0)
    with monkeypatch.context() as refusing:
        refusing.setattr(f"market_pipeline.warehouse.{last_step}", _refuse)
        sink.write("rows", ROWS)
    assert 1 == sink.failures
    sink.write("rows", [Row("Y", None)])
    sink.close()
    folder = tmp_path / "rows"
    parts = sorted(folder.glob("*.parquet"))
    assert ["X", "X", "Y"] == sorted(pl.read_parquet(parts)["symbol"])
    if kind is DeltaTables:
        assert len(parts) == len(DeltaTable(folder).file_uris())


def _refuse(path):
    raise OSError(errno.EIO, "Input/output error", str(path))


def test_what_can_never_be_written_is_an_error(tmp_path):
    """The last rows are not lost silently: closing the sink raises, and writes the other kinds."""
    (tmp_path / "rows").write_text("")
    sink = DeltaTables(tmp_path, 60.0)
    for kind in ("rows", "others"):
        sink.write(kind, ROWS)
    with pytest.raises(OSError, match="rows"):
        sink.close()
    assert 2 == pl.read_delta(str(tmp_path / "others")).height


class TestOwn:
    def test_the_documented_sink_of_a_package(self, tmp_path, monkeypatch):
        """The package of the docs page, once it is installed, is found by the name it gives."""
        page = (ROOT / "docs/capture/book.md").read_text(encoding="utf-8")
        named = re.search(r"^(lines = )\"(.*)\"$", page, re.MULTILINE)
        code = re.search(r"```python\n(import json.*?)```", page, re.DOTALL)
        info = tmp_path / "my_package-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[market_pipeline.sinks]\n{named[1]}{named[2]}\n")
        (tmp_path / "my_package.py").write_text(code[1])
        monkeypatch.syspath_prepend(tmp_path)
        sink = sink_of("lines", tmp_path / "out", 60.0)
        sink.write("rows", ROWS)
        sink.close()
        lines = (tmp_path / "out" / "all.txt").read_text().splitlines()
        assert 'rows {"symbol": "X", "price": 1.5}' == lines[0]

    def test_an_unknown_sink(self, tmp_path):
        """The error names what there is."""
        with pytest.raises(SettingsError, match="jsonl, parquet, delta"):
            sink_of("kafka", tmp_path, 60.0)
