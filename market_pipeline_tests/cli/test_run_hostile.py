"""A run of bombs of every table and source beside a clean instrument."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from market_pipeline.sources.memory_limits import MAX_MESSAGE_ROWS, MAX_TRADES
from market_pipeline.sources.simulated import simulate
from market_pipeline_tests.conftest import kilobytes
from market_pipeline_tests.defs.workspace import Running, Workspace, days_arguments, entry, raw_file
from market_pipeline_tests.sources.hostile_files import (
    MEGABYTE,
    line_without_end,
    many,
    shared_gigabyte,
    squeezed,
    write,
)
from market_pipeline_tests.sources.raw_files import deltas, snapshots, trades
from market_pipeline_tests.sources.simulated.days import DAY, instrument
from market_pipeline_tests.sources.tardis_files import HEADINGS, INCREMENTAL, path_of

PEAK_MEGABYTES = 1_024
"""The default memory budget; the bombs unpack to thirty times as much."""


def one_of(rows: pa.Table, times: int) -> pa.Table:
    """The first row, again and again."""
    return rows.take(pa.array(np.zeros(times, np.int64)))


def one_message(path: Path) -> Path:
    """A message of 32 million rows."""
    return many(path, 32 * MEGABYTE, lambda number: one_of(deltas(2), number.size))


def wide(path: Path) -> Path:
    """A row group of half a million snapshots, of which each column is one page."""
    rows = one_of(snapshots(1), 1 << 19)
    return write(path, rows, row_group_size=1 << 19, data_page_size=1 << 30)


def many_trades(path: Path) -> Path:
    """One trade more than a day may have."""
    return many(path, MAX_TRADES + 1, lambda number: one_of(trades(2), number.size))


def names(path: Path) -> Path:
    """A column whose name clears the terminal, and one whose name goes on for a megabyte."""
    return write(path, trades(2, **{"\x1b[2J\n<script>": [1, 2], "n" * MEGABYTE: [1, 2]}))


@contextmanager
def memory_group(megabytes: int) -> Iterator[Path | None]:
    """A memory cgroup of the kernel with this limit; None where this user may make none."""
    lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    own = {kind: path for _, kind, path in (line.split(":", 2) for line in lines)}
    if "memory" in own:
        parent, name = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
    else:
        parent, name = Path("/sys/fs/cgroup"), "memory.max"
    group = parent / own.get("memory", own.get("", "")).lstrip("/") / uuid.uuid4().hex
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    try:
        (group / name).write_text(f"{megabytes * 10**6}")
    except OSError:
        group.rmdir()
        yield None
        return
    yield group
    group.rmdir()


def peak_of(running: Running) -> int:
    """The most memory that a verb had until it ended, in kilobytes."""
    peak = 0

    def looked() -> bool:
        nonlocal peak
        with suppress(OSError, ValueError):  # it ends, or has ended
            peak = max(peak, kilobytes("VmHWM", running.process.pid))
        return False

    running.until(looked)
    return peak


BOMBS = {
    "TEXT-USD": ("trades", shared_gigabyte, "may be held in memory"),
    "MANY-USD": ("trades", many_trades, "may be held in memory"),
    "NAME-USD": ("trades", names, "does not have the columns of its table"),
}
"""By symbol the table that is replaced, by what, and why it is refused."""
BESIDE = {"ONE-USD": ("book_delta_v2", one_message), "WIDE-USD": ("book", wide)}
"""The same of what leaves something to publish: the snapshots, the deltas."""


@pytest.mark.slow
def test_bombs(tmp_path: Path):
    """Each is refused with its reason, the clean one is available, and all fit the budget.

    Where the kernel lets this user limit memory, the run has no more than the budget in all.
    """
    pipeline = Workspace(tmp_path, tmp_path / "lake")
    symbols = ["GOOD-USD", *BESIDE, *BOMBS]
    venue = [instrument(symbol) for symbol in symbols]
    simulate(pipeline.lake, venue, DAY, DAY, messages_per_day=8_000, snapshot_interval_s=20.0)
    for symbol, (table, make, *_) in (BOMBS | BESIDE).items():
        make(raw_file(pipeline.lake, table, symbol, DAY))
    line = pipeline.lake / "binance_capture" / "spot" / f"lineusdt_{DAY:%Y%m%d}.gz"
    line_without_end(line, megabytes=500)
    row = [HEADINGS[INCREMENTAL].encode(), b"\nkraken,", *[b"9" * MEGABYTE] * 500]
    squeezed(path_of(pipeline.lake, "kraken", INCREMENTAL, DAY, "ROW-USD"), row)
    pipeline.configure(
        *map(entry, venue),
        {"venue": "BINANCE", "symbol": "LINE-USDT", "source": "binance_capture"},
        {"venue": "KRAKEN", "symbol": "ROW-USD", "source": "tardis_csv"},
    )
    with memory_group(PEAK_MEGABYTES) as group:
        running = pipeline.start(*days_arguments(DAY))
        if group is not None:
            (group / "cgroup.procs").write_text(f"{running.process.pid}")
        peak_kilobytes = peak_of(running)
        finished = running.finish()
    report = pipeline.sql("SELECT symbol, condition, failure FROM quality.validation_report")
    found = {symbol: (condition, failure) for symbol, condition, failure in report.iter_rows()}

    assert 1 == finished.exit_code, finished.errors
    assert ("available", None) == found["GOOD-USD"]
    assert {*symbols, "LINE-USDT", "ROW-USD"} == set(found)
    for symbol, (_, _, reason) in BOMBS.items():
        condition, failure = found[symbol]
        assert ("missing", True) == (condition, reason in failure), (symbol, condition, failure)
        assert failure.isprintable()
        assert len(failure) < 2_000
    for symbol in ("LINE-USDT", "ROW-USD"):
        condition, failure = found[symbol]
        assert ("missing", True) == (condition, "could not be turned into raw tables" in failure)
    for symbol in BESIDE:
        assert ("degraded", None) == found[symbol]
    profiles = pipeline.sql(
        "SELECT failure FROM lake.profiles WHERE symbol = 'ONE-USD' AND raw_table = 'book_delta_v2'"
    )
    assert f"at most {MAX_MESSAGE_ROWS} rows in a message" in profiles.item()
    assert 0 < peak_kilobytes < PEAK_MEGABYTES * 1_024
    assert "Traceback" not in finished.errors
    assert "\x1b[2J" not in finished.output + finished.errors
