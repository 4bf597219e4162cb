"""What sinks leave behind: whole files and commits, with every row once."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import sys
from contextlib import nullcontext, suppress
from itertools import count
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from msgspec import Struct

from market_pipeline.capture import sinks
from market_pipeline.capture.sinks import DeltaTables, ParquetParts, sink_of
from market_pipeline.errors import PublishError, SettingsError
from market_pipeline_tests.defs.workspace import forks

ROOT = Path(__file__).parents[2]


class Row(Struct):
    symbol: str
    price: float | None


class Other(Struct):
    symbol: int
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


@pytest.mark.parametrize("left", [b'{"symbol":"X","pri', b"x" * 3_000_000], ids=["short", "long"])
def test_json_lines_after_a_kill(tmp_path, left):
    """The part of a line that a killed process left is taken away before the next one."""
    file = tmp_path / "rows.jsonl"
    for whole in (b"", b'{"symbol":"W","price":2.0}\n'):
        file.write_bytes(whole + left)
        sink = sink_of("jsonl", tmp_path, 60.0)
        sink.write("rows", ROWS[:1])
        sink.close()
        assert whole + b'{"symbol":"X","price":1.5}\n' == file.read_bytes()


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


GATHERING = pytest.mark.parametrize("kind", [ParquetParts, DeltaTables], ids=["parquet", "delta"])


def rows_below(folder: Path) -> list[str]:
    """The symbols of all parts, in the order in which they were written."""
    return [each for part in sorted(folder.glob("*.parquet")) for each in symbols_of(part)]


def symbols_of(part: Path) -> list[str]:
    return pl.read_parquet(part)["symbol"].to_list()


@GATHERING
def test_what_cannot_be_written_is_tried_again(tmp_path, kind, caplog):
    """Rows that the system refuses stay, are a failure and a warning, and are there before the next
    ones.
    """
    in_the_way = tmp_path / "rows"
    in_the_way.write_text("")
    sink = kind(tmp_path, 0.0)
    sink.write("rows", ROWS)
    in_the_way.unlink()
    sink.write("rows", [Row("Y", None)])
    assert (2, 1, ["X", "X", "Y"]) == (sink.commits, sink.failures, rows_below(in_the_way))
    assert [f"Rows for {in_the_way} cannot be written"] == [
        each.getMessage().partition(" and wait")[0] for each in caplog.records
    ]


def test_a_row_that_no_column_can_hold(tmp_path):
    """It is refused with those it came with; rows before and after it are written."""
    sink = ParquetParts(tmp_path, 60.0)
    sink.write("rows", [Wider("X", 1.0, 1)])
    with pytest.raises(pl.exceptions.ComputeError, match="could not append value"):
        sink.write("rows", [Wider("Y", 1.0, 2), Wider("Z", 1.0, 1 << 64)])
    sink.write("rows", [Wider("X", 1.0, 3)])
    sink.close()
    (part,) = (tmp_path / "rows").glob("*.parquet")
    assert [1, 3] == pl.read_parquet(part)["size"].to_list()


def test_a_full_sink_takes_no_more(tmp_path, monkeypatch):
    """Once too many rows wait, further ones raise, so that whoever gave them counts them as left
    out: memory is bounded, the disk is not tried at each of them, and those it took are written.
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
    assert (6, 1) == (len(taken), sink.failures)
    sink.close()
    assert taken == rows_below(in_the_way)


def test_a_column_of_another_type(tmp_path):
    """A Delta table of before keeps its types: rows of others are refused, and the table is read as
    before.
    """
    for rows, refused in ((ROWS, nullcontext()), ([Other(1, 2.0)], pytest.raises(PublishError))):
        sink = DeltaTables(tmp_path, 60.0)
        sink.write("rows", rows)
        with refused:
            sink.close()
    assert ["X", "X"] == pl.read_delta(str(tmp_path / "rows"))["symbol"].to_list()


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), ValueError()], ids=repr
)
@pytest.mark.parametrize(
    ("kind", "last_step"),
    [(ParquetParts, "layout.sync"), (DeltaTables, "layout.sync"), (DeltaTables, "delta.sync")],
    ids=["parquet, renamed", "delta, not committed", "delta, committed"],
)
def test_an_error_after_rows_are_there(tmp_path, monkeypatch, kind, last_step, error):
    """The next try has every row once, and leaves no part that is of no table; nobody is told that
    rows are left out.
    """

    def refuse(path):
        raise error

    sink = kind(tmp_path, 0.0)
    with monkeypatch.context() as refusing:
        refusing.setattr(f"market_pipeline.warehouse.{last_step}", refuse)
        sink.write("rows", ROWS)
    assert 1 == sink.failures
    sink.write("rows", [Row("Y", None)])
    sink.close()
    folder = tmp_path / "rows"
    assert ["X", "X", "Y"] == rows_below(folder)
    if kind is DeltaTables:
        assert 2 == len(DeltaTable(folder).file_uris()) == len(list(folder.glob("*.parquet")))


def write_until_killed(kind: type[ParquetParts | DeltaTables], folder: Path, after: int) -> None:
    """Two parts, the second killed after so many steps; ends as it should if there are fewer."""
    sink, steps = kind(folder, 0.0), count()
    sink.write("rows", [Row("A", None)])

    def step(*_: object) -> None:
        if next(steps) == after:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(step)
    sink.write("rows", [Row("B", None)])


@pytest.mark.slow
@pytest.mark.parametrize("stride", [97, pytest.param(5, marks=pytest.mark.attack)])
@GATHERING
def test_killed_at_each_step(tmp_path, kind, stride):
    """Whatever step of a part it is killed at, all of it is there or nothing, and what was written
    before; the next process goes on.
    """
    found = []
    for after in count(0, stride):
        folder = tmp_path / str(after)
        process = forks().Process(target=write_until_killed, args=(kind, folder, after))
        process.start()
        process.join()
        sink = kind(folder, 0.0)
        sink.write("rows", [Row("C", None)])
        table = folder / "rows"
        parts = sorted(map(Path, DeltaTable(table).file_uris())) if kind is DeltaTables else None
        parts = sorted(table.glob("*.parquet")) if parts is None else parts
        found.append("".join(each for part in parts for each in symbols_of(part)))
        if process.exitcode == 0:
            break
        assert -signal.SIGKILL == process.exitcode
    assert ["AC", "ABC"] == sorted({*found}, key=len)
    assert ("AC", "ABC", True) == (found[0], found[-1], len(found) > 5)


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
