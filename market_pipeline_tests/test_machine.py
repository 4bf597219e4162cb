"""What the system and the libraries say of a machine that refuses becomes an error of ours."""

from __future__ import annotations

import errno
import gc
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import sqlalchemy.exc
from deltalake import write_deltalake

from market_pipeline.errors import LakeFileError, PublishError, is_of_machine
from market_pipeline.machine import (
    as_machine_error,
    in_our_words,
    no_garbage_collected,
    reports_machine_errors,
)

FRAME = pl.DataFrame({"a": np.random.default_rng(1).bytes(1 << 20).hex(" ", 16).split()})


def with_duckdb(path: Path) -> None:
    frame = FRAME  # noqa: F841 - DuckDB finds it by its name
    with closing(duckdb.connect(str(path))) as connection:
        connection.execute("CREATE TABLE t AS SELECT * FROM frame")
        connection.execute("CHECKPOINT")


WRITERS: dict[str, Callable[[Path], object]] = {
    "python": lambda path: path.write_bytes(bytes(1 << 20)),
    "duckdb": with_duckdb,
    "polars": FRAME.write_parquet,
    "pyarrow": lambda path: pq.write_table(FRAME.to_arrow(), path),
    "deltalake": lambda path: write_deltalake(path, FRAME.to_arrow()),
}

PANIC = """
import resource
from market_pipeline.machine import panic_without_backtrace
panic_without_backtrace()
import polars as pl
frame = pl.LazyFrame({"a": [1]})
lines = open("/proc/self/status").read().splitlines()
(kilobytes,) = (int(line.split()[1]) for line in lines if line.startswith("VmData"))
limit = (kilobytes << 10) + (1 << 20)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
frame.select(pl.col("a").sum()).collect(engine="streaming")
"""

FREED = """
from pathlib import Path
from market_pipeline.machine import give_memory_back
give_memory_back()
def pages():
    return int(Path("/proc/self/statm").read_text().split()[1])
b"x" * (24 << 20)
before, parts = pages(), []
for _ in range(8):
    parts += [b"x" * (16 << 20), b"x" * (1 << 16)]
del parts[::2]
print(pages() - before)
"""


@pytest.fixture
def small_files(full_at) -> Iterator[None]:
    """No file of this process grows beyond 64 kB."""
    with full_at(64_000):
        yield


def raised_by(function: Callable[..., object], *arguments: object) -> Exception:
    """What a call raises."""
    try:
        function(*arguments)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("writer", WRITERS)
def test_full_disk(tmp_path: Path, writer: str):
    """Whichever library writes, a file that may not grow ends the run, with what is free."""
    error = raised_by(WRITERS[writer], tmp_path / "file")
    ours = as_machine_error(error)

    assert is_of_machine(error)
    assert ours is not None
    assert "bytes that are free now" in (ours.expected or "")
    assert "Free some space" in ours.next_step
    assert (ours.file or "").startswith("/")


@pytest.mark.parametrize("writer", WRITERS)
def test_folder_that_is_a_file(tmp_path: Path, writer: str):
    """Whichever library writes, a path that cannot be is named."""
    (tmp_path / "file").touch()
    ours = as_machine_error(raised_by(WRITERS[writer], tmp_path / "file" / "x"))

    assert ours is not None
    assert ours.file


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError(), "There is not enough memory"),
        (duckdb.OutOfMemoryException("Out of Memory Error: failed"), "There is not enough memory"),
        (RuntimeError("can't start new thread"), "starts no further thread"),
        (OSError(errno.EMFILE, "Too many open files", "/x"), "No further file can be opened"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), "on a read-only disk (file=/x"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "may not be used (file=/x"),
        (OSError(errno.EIO, "Input/output error", "/x"), "refused a file or folder: Input/output"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/x"), "The disk is full (file=/x"),
        (sqlite3.OperationalError("database or disk is full"), "The disk is full (file=/"),
        (sqlite3.OperationalError("unable to open database file"), "may not be used (file=/"),
        (ImportError("x.so: failed to map segment from shared object"), "not enough memory"),
        (
            pl.exceptions.PanicException("no runtime: Os { code: 24, kind: Uncategorized }"),
            "No further file can be opened",
        ),
    ],
)
def test_words(error: BaseException, text: str):
    """Each failure of the machine is named, with what to do, and ends the run."""
    ours = as_machine_error(error)

    assert text in str(ours)
    assert str(ours).endswith("then run this again; what was published before is untouched.")
    assert is_of_machine(error)


@pytest.mark.usefixtures("small_files")
def test_storage_of_dagster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """SQLite's one text for a log that may not grow is reported as that, with Dagster's folder."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    cause = sqlite3.OperationalError("disk I/O error")
    text = str(as_machine_error(sqlalchemy.exc.OperationalError("INSERT", None, cause)))

    assert text.startswith(f"A file may not grow so large (file={tmp_path}, ")


def test_ours_stay():
    """What is of the closed list already, and what is a fault of the program, is left alone."""
    try:
        raise PublishError("x", next_step="y") from OSError(errno.ENOSPC, "full")
    except PublishError as error:
        assert as_machine_error(error) is None
    assert as_machine_error(ValueError("No space left on device")) is None


def test_a_file_is_not_damaged_for_want_of_descriptors():
    """A raw file that could not be opened because too many are open is the machine's failure."""
    try:
        raise LakeFileError("x", next_step="y", file="/f") from OSError(errno.EMFILE, "many")
    except LakeFileError as error:
        ours = as_machine_error(error)
        assert is_of_machine(error)
    assert ours is not None
    assert "/f" == ours.file


@pytest.mark.parametrize(
    "error",
    [
        pl.exceptions.ColumnNotFoundError('No space left on device" not found'),
        pl.exceptions.ComputeError("`No space left on device` is no number"),
        OSError("Couldn't deserialize thrift: not a Parquet file"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/raw"),
    ],
)
def test_a_vendors_words_end_no_run(error: Exception):
    """What a file holds, or that it is damaged or gone, is the failure of its instrument."""
    assert not is_of_machine(error)


def test_no_cause_is_left():
    """Around functions and generators the error of the system is replaced, not wrapped."""

    @reports_machine_errors
    def steps() -> Iterator[int]:
        yield 1
        Path("/dev/null/x").mkdir()

    with pytest.raises(Exception, match="Not a directory") as raised, in_our_words():
        list(steps())
    assert ("MachineError", None, True) == (
        type(raised.value).__name__,
        raised.value.__cause__,
        raised.value.__suppress_context__,
    )


def test_a_panic_for_want_of_memory():
    """It ends what it came from: with a backtrace the process would wait for itself for ever."""
    ended = subprocess.run(
        [sys.executable, "-c", PANIC],
        env=os.environ | {"RUST_BACKTRACE": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert 1 == ended.returncode
    assert "PanicException" in ended.stderr


def test_freed_arrays_go_back():
    """Of 128 MB that were freed below things that live on, the process keeps less than 8."""
    ended = subprocess.run(
        [sys.executable, "-c", FREED], check=True, capture_output=True, text=True
    )
    assert int(ended.stdout) * os.sysconf("SC_PAGESIZE") < 8 << 20


def test_the_collector_is_as_it_was():
    """It is off inside, also behind a block in the block, and on again only where it was on."""
    with no_garbage_collected():
        with no_garbage_collected():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
