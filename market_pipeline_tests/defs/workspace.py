"""A pipeline of its own for a test: its folders and settings, and processes that run its verbs.

A verb runs in a process forked from one that has the libraries loaded, so that it takes a second or
two and not five. It reads its settings afresh, and it can be killed.
"""

from __future__ import annotations

import faulthandler
import hashlib
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import yaml

from market_pipeline.sources.simulated import SimulatedInstrument
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.catalogue import connect
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import current_files
from market_pipeline.warehouse.working import read_rows
from market_pipeline_tests.conftest import REPOSITORY
from market_pipeline_tests.published_day import MINUTES

PATIENCE_SECONDS = 900
"""After so long a process hangs; the first one may have to compile the kernels."""

NOT_ASKED_FOR = frozenset(
    {"market_events", "funding", "open_interest", "fidelity_report", "fidelity_metrics"}
)
"""Tables that are empty where no instrument is a contract, or asks for more."""

WIDTHS = {f"PIPELINE_{name}".upper(): ",".join(map(str, each)) for name, each in MINUTES.items()}
"""Rows of metrics and of bars; without them a run makes those of every second, as by default."""


@dataclass(frozen=True)
class Finished:
    """How a verb ended, and what it said."""

    exit_code: int | None
    output: str
    errors: str


@dataclass
class Running:
    """A verb under way."""

    process: Any
    output: Path
    errors: Path

    def finish(self) -> Finished:
        """Waits for the end."""
        self.process.join(PATIENCE_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"{self.output.read_text()}\n{self.errors.read_text()}")
        return Finished(self.process.exitcode, self.output.read_text(), self.errors.read_text())

    def kill(self) -> Finished:
        """Ends it as a power cut would, between two instructions."""
        self.process.kill()
        return self.finish()

    def until(self, happened: Callable[[], bool]) -> None:
        """Waits until something is seen on disk, or the verb has ended.

        A look that takes long is taken less often: the verb needs the cores.
        """
        end = time.monotonic() + PATIENCE_SECONDS
        began_s = time.thread_time()
        while not happened() and self.process.is_alive() and time.monotonic() < end:
            took_s = time.thread_time() - began_s
            time.sleep(max(0.002, 9 * took_s))
            began_s = time.thread_time()


@dataclass
class Workspace:
    """Folders and settings of one pipeline below `root`.

    `more` are settings beyond the folders, as environment variables.
    """

    root: Path
    lake: Path
    start_date: date = date(2024, 7, 1)
    more: dict[str, str] = field(default_factory=dict)
    _started: int = 0

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True)
        shutil.copy(REPOSITORY / "dagster_home" / "dagster.yaml", self.home)

    @property
    def data_dir(self) -> Path:
        return self.root / "data"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def instruments_file(self) -> Path:
        return self.root / "instruments.yaml"

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.data_dir)

    def environment(self) -> dict[str, str]:
        """This process's environment with the settings of this pipeline and no others."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.upper().startswith(("PIPELINE_", "DAGSTER_", "PYTEST_"))
        }
        return kept | {
            "DAGSTER_HOME": str(self.home),
            "PIPELINE_DATA_DIR": str(self.data_dir),
            "PIPELINE_LAKE_URI": str(self.lake),
            "PIPELINE_INSTRUMENTS_FILE": str(self.instruments_file),
            "PIPELINE_START_DATE": self.start_date.isoformat(),
            # So that not each of hundreds of runs loads the SDK.
            "PIPELINE_METRICS": "false",
            "PIPELINE_TRACES": "false",
            # So that not each of them makes 86,400 rows of an instrument's seconds, twice.
            **WIDTHS,
            **self.more,
        }

    def configure(self, *instruments: Mapping[str, object] | SimulatedInstrument) -> None:
        """Writes the instruments file."""
        entries = [each if isinstance(each, Mapping) else entry(each) for each in instruments]
        self.instruments_file.write_text(yaml.safe_dump({"instruments": entries}))

    def call(self, function: Callable[..., None], *arguments: object) -> Running:
        """Starts a function, by its name in its module, in a process of its own."""
        self._started += 1
        output, errors = (self.root / f"{self._started}.{stream}" for stream in ("out", "err"))
        process = forks().Process(
            target=_in_environment,
            args=(self.environment(), self.root, output, errors, function, arguments),
            daemon=True,
        )
        process.start()
        return Running(process, output, errors)

    def start(self, *arguments: str) -> Running:
        """Starts `market-pipeline` with these arguments in a process of its own."""
        return self.call(_market_pipeline, *arguments)

    def limited(self, limit: int, most: int, *arguments: str) -> Running:
        """Starts `market-pipeline` in a process with a limit (`resource.RLIMIT_…`)."""
        return self.call(_limited, limit, most, *arguments)

    def run(self, *arguments: str) -> Finished:
        """Runs `market-pipeline` with these arguments to its end."""
        return self.start(*arguments).finish()

    def run_days(self, start: date, end: date | None = None, *more: str) -> Finished:
        """Runs the verb `run` for the days from `start` to `end`."""
        return self.run(*days_arguments(start, end), *more)

    def command(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs an installed command to its end, as a shell would."""
        return subprocess.run(
            [str(Path(sys.executable).with_name(name)), *arguments],
            env=self.environment(),
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )

    def sql(self, query: str, *values: object) -> pl.DataFrame:
        """What a query of the catalogue returns now."""
        with closing(connect(self.data_dir)) as connection:
            return connection.execute(query, values).pl()

    def last_checks(self) -> dict[str, Any]:
        """What the checks of the newest run said, by name, from Dagster's event log."""
        with self.instance() as instance:
            (run,) = instance.get_runs(limit=1)
            return {
                said.check_name: said
                for said in (
                    record.event_log_entry.get_dagster_event().asset_check_evaluation_data
                    for record in instance.get_records_for_run(
                        run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
                    ).records
                )
            }

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """The Dagster instance that this pipeline's runs are kept in."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DAGSTER_HOME", str(self.home))
            with dg.DagsterInstance.get() as instance:
                yield instance

    def published(self, day: date, tables: Iterable[str] = tuple(TABLES)) -> dict[str, str]:
        """A digest of what is published of a day, by asset: names of files, or rows."""
        found = {}
        for name in tables:
            table = TABLES[name]
            if table.storage == "delta":
                files = current_files(self.warehouse, table, day)
                text = "\n".join(str(file.relative_to(self.data_dir)) for file in files)
            else:
                text = read_rows(self.warehouse, table, day).write_json()
            found[name] = hashlib.sha256(text.encode()).hexdigest()
        return found


def days_arguments(start: date, end: date | None = None) -> tuple[str, ...]:
    """The arguments of `run` for the days from `start` to `end`, by default one day."""
    return ("run", "--start-date", f"{start}", "--end-date", f"{end or start}")


def hours_of_today() -> str:
    """A vendor's lag: yesterday became due within this hour, the next day does so in 23 hours.

    With one of 0 a day more is due once midnight comes while a test runs.
    """
    return str(datetime.now(UTC).hour)


def entry(instrument: SimulatedInstrument) -> dict[str, object]:
    """The entry of the instruments file for a simulated instrument."""
    return instrument.as_instrument().model_dump(
        mode="json", include={"venue", "symbol", "source", "tick", "lot"}
    )


def raw_file(lake: Path, table: str, symbol: str, day: date, venue: str = "SIMULATED") -> Path:
    """The first shard of a table of one instrument and day."""
    folder = lake / table / f"exchange={venue}" / f"symbol={symbol}" / f"dt={day}"
    return folder / "1.snappy.parquet"


@cache
def forks() -> ForkServerContext:
    """Starts processes, each forked from one that has the libraries loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["market_pipeline_tests.defs.warm"])
    return context


def _in_environment(
    environment: Mapping[str, str],
    folder: Path,
    output: Path,
    errors: Path,
    function: Callable[..., None],
    arguments: Sequence[object],
) -> None:
    """Makes this process what a shell would have started there, and calls the function."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, file in ((1, output), (2, errors)):
        with file.open("wb") as stream:
            os.dup2(stream.fileno(), number)
    faulthandler.enable()  # else a crash in native code is an end without a word
    function(*arguments)


def _limited(limit: int, most: int, *arguments: str) -> None:
    resource.setrlimit(limit, (most, most))
    _market_pipeline(*arguments)


def _market_pipeline(*arguments: str) -> None:
    """What the console script does."""
    sys.argv = ["market-pipeline", *arguments]

    from market_pipeline.cli.main import main

    main()
