from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pyarrow.parquet as pq
import pytest

from market_pipeline.sources.simulated import Fault, FaultKind, SimulatedInstrument, simulate
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.read import current_files
from market_pipeline_tests.defs.workspace import NOT_ASKED_FOR, Finished, Workspace, entry, raw_file
from market_pipeline_tests.sources.simulated.days import DAY, instrument

pytestmark = pytest.mark.slow

RAW = ("book_delta_v2", "book", "trades")
BIG = tuple(
    name for name, table in TABLES.items() if table.storage == "delta" and name not in NOT_ASKED_FOR
)
SMALL = tuple(name for name, table in TABLES.items() if table.storage == "duckdb")
NAMES = ("GOOD", "CUT", "COLUMN", "EMPTY", "NONE", "OFF", "SILENT", "SKEWED")
USABLE = ("GOOD", "OFF", "SILENT", "SKEWED")
SKEW = {"offset_ms": -1_200, "drift_ppm": -60, "step_ms": 250, "step_at_s": 57_600}
PLANTED = (
    ("CUT", FaultKind.TRUNCATED_FILE, 0, 0, {}),
    ("OFF", FaultKind.OFF_TICK_PRICE, 36_000, 3_600, {}),
    ("SILENT", FaultKind.SILENCE_GAP, 36_000, 7_200, {}),
    ("SKEWED", FaultKind.CLOCK_SKEW, 300, 85_800, SKEW),
)


@dataclass(frozen=True)
class State:
    """What a run said and what was published after it.

    Attributes:
        finished: How the run ended.
        rows: The rows of the small tables, by asset.
        files: Names of the big tables' files, by asset and instrument.
        counts: Rows of the big tables, by asset and instrument.
        checks: What the run's checks said, by name, from Dagster's event log.
    """

    finished: Finished
    rows: dict[str, pl.DataFrame] = field(default_factory=dict)
    files: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    checks: dict[str, Any] = field(default_factory=dict)

    def of(self, asset: str, name: str) -> pl.DataFrame:
        """An instrument's rows of a small table."""
        return self.rows[asset].filter(pl.col("symbol") == f"{name}-USD")

    def verdict(self, name: str) -> dict[str, Any]:
        """An instrument's row of the report."""
        return self.of("validation_report", name).row(0, named=True)

    def everything_of(self, *names: str) -> dict[str, Any]:
        """All that is published of some instruments, in a form that can be compared."""
        small = {
            (asset, name): self.of(asset, name).rows() for asset in self.rows for name in names
        }
        return small | {(asset, name): self.files[asset, name] for asset in BIG for name in names}


def simulated(name: str) -> SimulatedInstrument:
    return instrument(f"{name}-USD")


def delta_file(workspace: Workspace, name: str) -> Path:
    return raw_file(workspace.lake, "book_delta_v2", f"{name}-USD", DAY)


def make_day(lake: Path, names: tuple[str, ...], faulty: bool) -> None:
    """Simulates the day of some instruments; the market is the same with and without faults."""
    faults = [
        Fault(
            kind=kind,
            symbol=f"{name}-USD",
            day=DAY,
            at_s=at_s,
            duration_s=duration_s,
            **figures,
        )
        for name, kind, at_s, duration_s, figures in PLANTED
        if faulty and name in names
    ]
    instruments = [simulated(name) for name in names]
    simulate(
        lake,
        instruments,
        DAY,
        DAY,
        messages_per_day=8_000,
        snapshot_interval_s=10.0,
        faults=faults,
        overwrite=True,
    )


def state(workspace: Workspace, finished: Finished) -> State:
    """Everything published, and what the last run's checks said."""
    found = State(finished)
    for asset in SMALL:
        found.rows[asset] = workspace.sql(f"SELECT * FROM {TABLES[asset].sql_name} ORDER BY ALL")
    for asset in BIG:
        table = TABLES[asset]
        counted = dict(
            workspace.sql(f"SELECT symbol, count(*) FROM {table.sql_name} GROUP BY ALL").rows()
        )
        for name in NAMES:
            files = current_files(workspace.warehouse, table, DAY, [f"SIMULATED:{name}-USD"])
            found.files[asset, name] = [file.name for file in files]
            found.counts[asset, name] = counted.get(f"{name}-USD", 0)
    found.checks.update(workspace.last_checks())
    return found


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    """Eight instruments: one as it should be, and seven that each have one fault."""
    root = tmp_path_factory.mktemp("faults")
    made = Workspace(root, root / "lake", more={"PIPELINE_CHECKPOINT_SECONDS": "21600"})
    made.configure(*map(simulated, NAMES))
    make_day(made.lake, NAMES, faulty=True)
    for name, change in (
        ("COLUMN", lambda rows: rows.drop_columns(["size"])),
        ("EMPTY", lambda rows: rows.slice(0, 0)),
    ):
        path = delta_file(made, name)
        pq.write_table(change(pq.read_table(path, partitioning=None)), path)
    # With their snapshots these days would be published from them.
    for name in ("CUT", "COLUMN", "EMPTY"):
        raw_file(made.lake, "book", f"{name}-USD", DAY).unlink()
    for table in RAW:
        raw_file(made.lake, table, "NONE-USD", DAY).unlink()
    return made


@pytest.fixture(scope="module")
def states(workspace) -> tuple[State, State, State]:
    """After the first run; after CUT was fetched again and rerun; after GOOD was cut and rerun."""
    first = state(workspace, workspace.run_days(DAY))

    make_day(workspace.lake, ("CUT",), faulty=False)
    again = workspace.run_days(DAY, DAY, "--instrument", "SIMULATED:CUT-USD")
    repaired = state(workspace, again)

    path = delta_file(workspace, "GOOD")
    path.write_bytes(path.read_bytes()[:5_000])
    raw_file(workspace.lake, "book", "GOOD-USD", DAY).unlink()
    bad = workspace.run_days(DAY, DAY, "--instrument", "SIMULATED:GOOD-USD")
    return first, repaired, state(workspace, bad)


@pytest.fixture(scope="module")
def first(states) -> State:
    """What there is after the first run of all instruments."""
    return states[0]


class TestFirstRun:
    def test_exit_code(self, first: State):
        """Bad data is no failure of the run: the code says that something is not available."""
        assert (1, "") == (first.finished.exit_code, first.finished.errors)

    def test_outcomes(self, first: State):
        """Each instrument has its documented outcome and condition in one row each."""
        report = first.rows["validation_report"].select(
            "symbol", "outcome", "condition", "failure_kind"
        )
        rebuilds = first.rows["book_rebuilds"].select("symbol", "outcome", "failure_kind")

        assert {
            "COLUMN-USD": ("quarantined", "missing", "SchemaError"),
            "CUT-USD": ("quarantined", "missing", "LakeFileError"),
            "EMPTY-USD": ("no_data", "missing", "MissingDataError"),
            "GOOD-USD": ("rebuilt", "available", None),
            "NONE-USD": ("no_data", "missing", "MissingDataError"),
            "OFF-USD": ("rebuilt", "degraded", None),
            "SILENT-USD": ("rebuilt", "degraded", None),
            "SKEWED-USD": ("rebuilt", "degraded", None),
        } == {symbol: tuple(rest) for symbol, *rest in report.rows()}
        assert sorted(rebuilds.rows()) == sorted(report.drop("condition").rows())

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            (
                "CUT",
                "The book_delta_v2 file cannot be read as Parquet (file={file}, expected=a "
                "complete Parquet file, found={bytes} bytes: ",
            ),
            (
                "COLUMN",
                "The book_delta_v2 file does not have the columns of its table (file={file}, "
                "column=size, expected=columns timestamp, receipt_timestamp, sequence_number, "
                "side_is_bid, price, size, found=missing: size; unexpected: none). Fetch the file "
                "again, or check that it lies in the right table's folder.",
            ),
            (
                "EMPTY",
                "The delta files hold no row (instrument=SIMULATED:EMPTY-USD, day=2025-03-03, "
                "file={file}, expected=at least one delta row, found=0 rows). Fetch the day "
                "again; if the vendor's file is empty too, report it.",
            ),
            ("NONE", "There is no raw file of this instrument and day (instrument=SIMULATED:NONE-"),
        ],
    )
    def test_error_texts(self, first: State, workspace: Workspace, name, text):
        """The whole error is in the report and in the rebuilds, and is the verdict's reason."""
        row = first.of("raw_book_deltas", name).row(0, named=True)
        expected = text.format(file=delta_file(workspace, name), bytes=row["bytes"])
        verdict = first.verdict(name)

        assert expected == verdict["failure"][: len(expected)]
        assert [verdict["failure"]] == verdict["reasons"]
        assert [verdict["failure"]] == first.of("book_rebuilds", name)["failure"].to_list()

    def test_manifest(self, first: State):
        """Raw objects are registered whatever their state, and nothing is made of a missing one."""
        found = {
            name: first.of("raw_book_deltas", name).row(0, named=True)
            for name in ("GOOD", "CUT", "COLUMN", "EMPTY", "NONE")
        }
        status = {name: (row["status"], row["failure_kind"]) for name, row in found.items()}

        assert {
            "GOOD": ("usable", None),
            "CUT": ("unusable", "LakeFileError"),
            "COLUMN": ("unusable", "SchemaError"),
            "EMPTY": ("usable", None),
            "NONE": ("missing", "MissingDataError"),
        } == status
        assert (0, None) == (found["EMPTY"]["rows"], found["NONE"]["sha256"])
        assert all(row["sha256"] for name, row in found.items() if name != "NONE")

    def test_others_are_published(self, first: State):
        """Every usable instrument has its books and metrics; the others have none."""
        for asset in BIG:
            published = [name for name in NAMES if first.counts[asset, name]]
            assert [name for name in NAMES if name in USABLE] == published
        for name in USABLE:
            messages = first.verdict(name)["messages"]
            assert messages == first.counts["book_bbo", name]
            assert messages == first.of("daily_metrics", name)["message_count"].sum()
        measured = set(first.rows["daily_metrics"]["symbol"])
        assert {f"{name}-USD" for name in USABLE} == measured

    def test_off_tick(self, first: State, workspace: Workspace):
        """Each price off the grid is counted and the first ones are located as in the raw file."""
        raw = pq.read_table(delta_file(workspace, "OFF"), partitioning=None)["price"].to_numpy()
        ticks = raw / 0.1
        off = [row for row in range(raw.size) if abs(ticks[row] - round(ticks[row])) > 0.01]
        rebuilt = first.of("book_rebuilds", "OFF").row(0, named=True)
        verdict = first.verdict("OFF")
        file = str(delta_file(workspace, "OFF").relative_to(workspace.lake))

        assert 10 == len(off) == rebuilt["price_losses"] == verdict["price_precision_losses"]
        assert (off, [file] * 10) == (rebuilt["price_loss_rows"], rebuilt["price_loss_files"])
        assert [float(raw[row]) for row in off] == rebuilt["price_loss_values"]
        assert (file, off[0], "price", raw[off[0]]) == tuple(
            verdict[f"first_precision_{part}"] for part in ("file", "row", "column", "value")
        )
        assert verdict["reasons"][0] == (
            f"10 prices off the tick 0.1, first {float(raw[off[0]])!r} in {file}, row {off[0]}."
        )

    def test_off_tick_rows_are_flagged(self, first: State, workspace: Workspace):
        """Messages from a refused price to the next snapshot carry PRECISION_LOSS."""
        (flagged,) = workspace.sql(
            "SELECT count(*) FILTER (flags & 64 > 0) FROM books.bbo WHERE symbol = 'OFF-USD'"
        ).row(0)

        assert 0 < flagged < 100
        assert first.verdict("OFF")["precision_loss_seconds"] > 0

    @pytest.mark.parametrize(
        ("check", "asset", "severity", "failing", "texts"),
        [
            (
                "schema",
                "raw_book_deltas",
                "ERROR",
                ("CUT", "COLUMN"),
                ["cannot be read as Parquet"],
            ),
            (
                "completeness",
                "raw_book_deltas",
                "ERROR",
                ("CUT", "COLUMN", "EMPTY", "NONE", "SILENT", "SKEWED"),
                ["The delta files hold no row", "There is no raw file of this instrument"],
            ),
            ("gap", "book_bbo", "ERROR", ("SILENT",), ["1 suspected gap of 7,2", "the first from"]),
            ("skew", "book_bbo", "WARN", ("SKEWED",), ["before the exchange's time", "step"]),
            ("precision", "book_bbo", "ERROR", ("OFF",), ["10 prices off the tick 0.1, first"]),
            ("crossed", "book_bbo", "WARN", ("SILENT",), ["The book is crossed for"]),
        ],
    )
    def test_checks(self, first: State, check, asset, severity, failing, texts):
        """Dagster's event log holds the failed check with its severity, and where it failed."""
        found = first.checks[check]
        told = [line.split(": ")[0] for line in found.description.split("\n\n")]

        assert (False, asset, severity, "2025-03-03", False) == (
            found.passed,
            found.asset_key.to_user_string(),
            found.severity.value,
            found.partition,
            found.blocking,
        )
        assert [f"SIMULATED:{name}-USD" for name in failing] == told
        assert len(failing) == found.metadata["failed"].value
        assert [] == [text for text in texts if text not in found.description]
        results = {
            record.data["instrument"]: record.data["result"]
            for record in found.metadata["instruments"].records
        }
        failed = [name for name, result in results.items() if result != "passed"]
        assert (told, "passed") == (failed, results["SIMULATED:GOOD-USD"])

    def test_nothing_is_left_in_staging(self, first: State, workspace: Workspace):
        """The instruments that failed left no unfinished file."""
        assert first.finished.exit_code == 1
        assert [] == list(workspace.warehouse.staging_dir.iterdir())

    def test_raw_files_are_untouched(self, first: State, workspace: Workspace):
        """The raw files are those that were registered, the bad ones too."""
        registered = first.of("raw_book_deltas", "COLUMN").row(0, named=True)

        assert registered["bytes"] == delta_file(workspace, "COLUMN").stat().st_size


def evaluate_checks(day: date) -> None:
    """Evaluates the checks of a published day alone, as the button in the UI does."""
    from market_pipeline.definitions import defs

    every = defs.resolve_implicit_global_asset_job_def()
    keys = every.asset_layer.asset_graph.asset_check_keys
    job = every.get_subset(asset_selection=set(), asset_check_selection=set(keys))
    with dg.DagsterInstance.get() as instance:
        job.execute_in_process(partition_key=str(day), instance=instance)


def test_checks_evaluated_later(states, workspace: Workspace):
    """They hold a day against the thresholds of its verdict, whatever is configured since."""
    *_, last = states
    lenient = {"gap_warn_seconds": 80_000.0, "gap_error_share": 1.0}
    entries = [entry(simulated(name)) | {"thresholds": lenient} for name in NAMES]
    workspace.configure(*entries)
    finished = workspace.call(evaluate_checks, DAY).finish()
    later = workspace.last_checks()

    assert 0 == finished.exit_code, finished.errors
    assert not later["gap"].passed
    assert set(later) == set(last.checks)
    for name, said in last.checks.items():
        assert (said.passed, said.description) == (later[name].passed, later[name].description)


class TestReruns:
    def test_one_instrument(self, states):
        """The instrument that was rerun has its books, its verdict and its metrics now."""
        _, repaired, _ = states
        verdict = repaired.verdict("CUT")

        assert (0, "rebuilt", "available") == (
            repaired.finished.exit_code,
            verdict["outcome"],
            verdict["condition"],
        )
        assert 0 < verdict["messages"] == repaired.counts["book_bbo", "CUT"]
        assert ["usable"] == repaired.of("raw_book_deltas", "CUT")["status"].to_list()
        assert 0 < repaired.of("daily_metrics", "CUT").height

    def test_the_others_are_kept(self, states):
        """Files and rows of the instruments that were not rerun are the same as before."""
        before, repaired, _ = states
        others = [name for name in NAMES if name != "CUT"]

        assert before.everything_of(*others) == repaired.everything_of(*others)

    def test_a_rerun_does_not_hide_what_fails_elsewhere(self, states):
        """A check of the partition still fails for the instruments that were not rerun."""
        _, repaired, _ = states

        assert not repaired.checks["schema"].passed
        assert "SIMULATED:COLUMN-USD" in repaired.checks["schema"].description

    def test_a_bad_rerun_withdraws(self, states):
        """An instrument that can no longer be rebuilt has no published row, as its verdict says."""
        _, before, after = states
        verdict = after.verdict("GOOD")

        assert 0 < before.counts["book_bbo", "GOOD"]
        assert [0] * len(BIG) == [after.counts[asset, "GOOD"] for asset in BIG]
        assert 0 == after.of("daily_metrics", "GOOD").height
        assert (1, "quarantined", "missing", "LakeFileError", None) == (
            after.finished.exit_code,
            verdict["outcome"],
            verdict["condition"],
            verdict["failure_kind"],
            verdict["messages"],
        )

    def test_a_bad_rerun_keeps_the_others(self, states):
        """What is published of the other instruments is the same as before."""
        _, before, after = states
        others = [name for name in NAMES if name != "GOOD"]

        assert before.everything_of(*others) == after.everything_of(*others)

    def test_an_earlier_version_can_still_be_read(self, states, workspace: Workspace):
        """The withdrawn day is in the Delta table's history until vacuum."""
        _, before, _ = states
        files = current_files(workspace.warehouse, TABLES["book_bbo"], date(2025, 3, 3), version=1)

        assert before.files["book_bbo", "GOOD"][0] in {file.name for file in files}
        assert all(file.exists() for file in files)
