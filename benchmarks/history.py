"""What a day costs when many days are published already.

The days before are the first rows of a day with other dates, published as the pipeline publishes.
`python -m benchmarks.history` is the process that is measured.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from rich.console import Console
from rich.progress import track

from benchmarks.chain import Task, month_task, settings_of
from benchmarks.figures import Figure
from benchmarks.measure import Spread, peak_rss_mb, run_child
from benchmarks.workspace import scratch, work_folder
from market_pipeline import connect
from market_pipeline.books.tables import BBO
from market_pipeline.cli.days import run_days
from market_pipeline.tables import RECORDS, TABLES, refresh_catalogue
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.publish import publish
from market_pipeline.warehouse.read import scan
from market_pipeline.warehouse.staging import StagedWriter
from market_pipeline.warehouse.tables import Table
from market_pipeline.warehouse.working import read_rows, replace_rows_within
from market_pipeline.warehouse.working_file import writing

__all__ = ["history_figures"]

_FURTHER_DAYS = 4
_PARTITION_ROWS = 100
_NS_PER_DAY = 86_400 * 10**9


def history_figures(days: int) -> list[Figure]:
    """What a day, a refresh, a connection and a query cost after so many published days."""
    task = month_task()
    with scratch() as folder:
        answer = run_child(
            "benchmarks.history",
            [json.dumps(asdict(task)), days],
            folder,
            **settings_of(task, folder, work_folder() / f"history-{days}"),
        )
    group = f"history of {days:,} days of ten instruments"
    bars = {"refresh of the catalogue": 0.3, "connect()": 0.1, "query of a day": 0.2}
    figures = [
        Figure(group, name, "CPU s", Spread.of(cpu_s), bars.get(name), more_is_better=False)
        for name, cpu_s in answer["cpu_s"].items()
    ]
    peak = Spread.of([answer["peak_mb"]])
    return [*figures, Figure(group, "peak memory", "MB RSS", peak, more_is_better=False)]


def _publish_history(warehouse: Warehouse, of: date, days: int) -> None:
    """Publishes the first rows of a day's tables again as so many days before it.

    What grows with a history is the number of its files, and not of their rows.
    """
    big = [table for table in TABLES.values() if table.storage == "delta"]
    small = [table for table in (*TABLES.values(), *RECORDS) if table.storage == "duckdb"]
    rows = {table.sql_name: read_rows(warehouse, table, of) for table in small}
    parts = {
        table.sql_name: {
            names: frame.head(_PARTITION_ROWS)
            for names, frame in scan(warehouse, table, of)
            .collect()
            .partition_by("exchange", "symbol", as_dict=True)
            .items()
        }
        for table in big
    }
    out = Console(file=sys.stderr)
    for back in track(range(1, days), "publishing", console=out, disable=not out.is_terminal):
        day = of - timedelta(days=back)
        for table in big:
            staged = []
            for (exchange, symbol), frame in parts[table.sql_name].items():
                with StagedWriter(warehouse, table, f"{exchange}:{symbol}") as writer:
                    for batch in _of_day(table, frame, day, back).to_batches():
                        writer.write(batch)
                staged.append(writer.staged)
            publish(warehouse, table, day, staged)
        with writing(warehouse) as connection:
            for table in small:
                frame = rows[table.sql_name].with_columns(dt=pl.lit(day))
                replace_rows_within(connection, table, day, None, frame)


def _of_day(table: Table, frame: pl.DataFrame, day: date, back: int) -> pa.Table:
    """The rows as if they were of so many days before."""
    times = [name for name in frame.columns if name in ("start_ns", "end_ns") or name[:3] == "ts_"]
    earlier = [pl.col(name) - back * _NS_PER_DAY for name in times]
    schema = table.arrow_schema
    moved = frame.with_columns(*earlier, dt=pl.lit(day)).select(schema.names)
    return moved.to_arrow().cast(schema)


def _cpu_s(call: Callable[[], object]) -> float:
    before = time.process_time()
    call()
    return time.process_time() - before


def _run(task: Task, published: int) -> dict[str, Any]:
    """Brings the history to its length, and measures what comes after it."""
    data_dir = Path(os.environ["PIPELINE_DATA_DIR"])
    warehouse = Warehouse(data_dir)
    ids, out = task.ids, Console(file=sys.stderr)
    first, *further = (date.fromisoformat(day) for day in task.days[: 1 + _FURTHER_DAYS])
    if not (data_dir / "complete").exists():
        run_days([first], ids, out)
        _publish_history(warehouse, first, published)
        refresh_catalogue(warehouse)
        (data_dir / "complete").touch()
    day_s = [_cpu_s(partial(run_days, [day], ids, out, force=True)) for day in further]
    before = first - timedelta(days=published // 2)

    def publish_one() -> None:
        with writing(warehouse) as connection:
            table = TABLES["daily_metrics"]
            replace_rows_within(connection, table, first, ids[:1], table.empty())

    refresh_s = []
    for _ in range(3):
        publish_one()
        refresh_s.append(_cpu_s(lambda: refresh_catalogue(warehouse)))
    query = f"SELECT count(*), max(bid_price_ticks) FROM {BBO.sql_name} WHERE dt = '{before}'"
    connect_s, query_s = [], []
    for _ in range(3):
        begun = time.process_time()
        with connect(data_dir) as connection:
            connected = time.process_time()
            connection.execute(query).fetchall()
            query_s.append(time.process_time() - connected)
        connect_s.append(connected - begun)
    cpu_s = {
        "a further day of a process": day_s[1:],
        "refresh of the catalogue": refresh_s,
        "connect()": connect_s,
        "query of a day": query_s,
    }
    return {"cpu_s": cpu_s, "peak_mb": peak_rss_mb()}


def main() -> None:
    """Measures a task given as JSON after so many days, and prints what it took as JSON."""
    os.umask(0o077)
    answer = _run(Task(**json.loads(sys.argv[1])), int(sys.argv[2]))
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
