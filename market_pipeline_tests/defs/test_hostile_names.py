"""Names that a vendor chose to act on whoever reads them, through a whole run and all it shows."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_pipeline.sources.simulated import simulate
from market_pipeline_tests.defs.workspace import Finished, Workspace, entry, raw_file
from market_pipeline_tests.sources.capture_files import capture
from market_pipeline_tests.sources.simulated.days import DAY, instrument
from market_pipeline_tests.test_shown import HOSTILE, acting

ACTING = HOSTILE.replace("\udcff", "")
MARKUP = "[red]<img src=x>![i](http://x)*b*`c`'); DROP--"
NAMES = [f"{ACTING}{MARKUP}", "x" * 50_000, *(f"{n}\x1b" for n in range(500))]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """An instrument with hostile columns and values, and one with a capture of a hostile name."""
    root = tmp_path_factory.mktemp("hostile")
    made = Workspace(root, root / "lake")
    listed = instrument("BAD-USD")
    converter = {"venue": "BINANCE", "symbol": "BTC-USDT", "source": "binance_capture"}
    made.configure(entry(listed), converter)
    simulate(made.lake, [listed], DAY, DAY, messages_per_day=8_000, snapshot_interval_s=20.0)
    deltas = raw_file(made.lake, "book_delta_v2", "BAD-USD", DAY)
    rows = pq.read_table(deltas)
    for name in NAMES:
        rows = rows.append_column(name, pa.nulls(rows.num_rows, pa.int8()))
    pq.write_table(rows, deltas)
    trades = raw_file(made.lake, "trades", "BAD-USD", DAY)
    sides = pl.lit(f"{ACTING}{MARKUP}{'y' * 50_000}").alias("side")
    pl.read_parquet(trades, hive_partitioning=False).head(50).with_columns(sides).write_parquet(
        trades
    )
    folder = made.lake / "binance_capture" / "spot"
    folder.mkdir(parents=True)
    name = os.fsencode(f"btcusdt_{DAY:%Y%m%d}\x1b[31m\u202e\n") + b"\xff.gz"
    capture(folder / os.fsdecode(name), [b"no capture"])
    return made


@pytest.fixture(scope="module")
def finished(workspace: Workspace) -> Finished:
    """The run of that day."""
    return workspace.run_days(DAY)


def texts(value: object) -> Iterator[str]:
    """Every text in a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield name
            yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)


@pytest.mark.slow
class TestHostileNames:
    def test_the_run(self, finished: Finished):
        """Both instruments are validated, and the terminal shows their names written out."""
        assert 1 == finished.exit_code
        assert [] == acting(finished.output + finished.errors)
        assert "\\x1b" in finished.output and "[red]" in finished.output
        assert 50_000 > len(finished.output)

    def test_what_is_published(self, workspace: Workspace, finished: Finished):
        """No text of any published table holds what acts, and none is as long as a vendor likes."""
        found = {}
        for (name,) in workspace.sql(
            "SELECT DISTINCT table_schema || '.' || table_name FROM information_schema.tables"
        ).iter_rows():
            for row in workspace.sql(f"SELECT to_json(t)::VARCHAR FROM {name} t").to_series():
                found[name] = [*found.get(name, []), *texts(json.loads(row))]
        failures = workspace.sql("SELECT failure FROM lake.raw_book_deltas ORDER BY exchange")

        assert {} == {name: told for name, told in found.items() if any(map(acting, told))}
        assert 10_000 > max(len(text) for told in found.values() for text in told)
        assert "btcusdt_20250303\\x1b[31m\\u202e\\n\\udcff.gz" in failures["failure"][0]
        assert "more" in failures["failure"][1]

    def test_the_event_log(self, workspace: Workspace, finished: Finished):
        """Neither what the UI shows of the run nor what alerts are made of holds what acts."""
        with closing(sqlite3.connect(workspace.home / "event_log.db")) as database:
            events = [row for (row,) in database.execute("SELECT event FROM event_logs")]
        # Texts of several lines are ours; the vendor's are one.
        told = [text for event in events for text in texts(json.loads(event))]

        said = " ".join(check.description for check in workspace.last_checks().values())

        assert len(told) > 100
        assert [] == [text for text in told if acting(text)]
        # The UI takes descriptions for Markdown.
        assert "!\\[i\\](http" in said and "![" not in said

    def test_the_page_and_the_verbs(self, workspace: Workspace, finished: Finished):
        """The report page, the quarantine's reasons and every verb that tells of the day."""
        days = ("--start-date", f"{DAY}", "--end-date", f"{DAY}")
        page = workspace.root / "page.html"
        said = [
            workspace.run("report", "--day", f"{DAY}", "--output", str(page)),
            workspace.run("analyze", *days),
            workspace.run("verdict", *days),
        ]
        as_json = workspace.run("verdict", *days, "--json")
        html = page.read_text()
        reasons = [each.read_text() for each in workspace.data_dir.rglob("*.reason.json")]

        assert [] == acting("".join([*(each.output + each.errors for each in said), html]))
        assert [] == acting("".join(reasons)) and reasons
        assert "<img src" not in html
        assert 2 == len(json.loads(as_json.output))
