from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from market_pipeline.capture.figures import StatusFigures
from market_pipeline.capture.recorder import Recorder
from market_pipeline.capture.sinks import JsonLines
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import load_settings
from market_pipeline.health.figures import record_health
from market_pipeline.health.look import look
from market_pipeline.health.memory import Memory
from market_pipeline.health.telling import tell
from market_pipeline.sources.recording import CONVERTER
from market_pipeline.sources.simulated import simulate
from market_pipeline.tables import TABLES
from market_pipeline.telemetry.bridge.sums import Bridge
from market_pipeline.telemetry.metrics.recording import FOLDER, begin
from market_pipeline.telemetry.metrics.table import METRICS, RECOVERY_DURATION, RESUMED_REBUILDS
from market_pipeline.warehouse.read import current_files
from market_pipeline.warehouse.staging import KEEP_STAGED, staging_age
from market_pipeline_tests.alerts.receiver import Receiver
from market_pipeline_tests.capture.recorded import record_market
from market_pipeline_tests.capture.scenario import lived
from market_pipeline_tests.defs.workspace import NOT_ASKED_FOR, Finished, Workspace, days_arguments
from market_pipeline_tests.exchange.server import FakeExchange
from market_pipeline_tests.published_day import MINUTES, publish_day
from market_pipeline_tests.sources.simulated.days import DAY, instrument
from market_pipeline_tests.store.certificates import make_certificates
from market_pipeline_tests.store.servers import MotoServer
from market_pipeline_tests.telemetry.figures import recorded

pytestmark = pytest.mark.slow

SYMBOLS = ("ONE-USD", "TWO-USD")
BIG = tuple(
    name for name, table in TABLES.items() if table.storage == "delta" and name not in NOT_ASKED_FOR
)


@dataclass(frozen=True)
class Interrupted:
    """A day whose first run was killed between two publishes, and whose second run was not.

    Attributes:
        ages: How old a staged file had to be to be swept, before the kill and after it.
        saved: Which rebuilds to go on from the killed run left.
        finished: How the second run ended.
        said: What its log holds.
        metadata: That of each asset it materialized.
        left: What lies in staging after it.
    """

    workspace: Workspace
    ages: tuple[timedelta, timedelta]
    saved: list[str]
    finished: Finished
    said: list[str]
    metadata: dict[str, dict[str, Any]]
    left: list[str]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory, moto_server: MotoServer) -> Interrupted:
    """Two instruments' day at a store, killed once `books.bbo` was published, and run again."""
    root = tmp_path_factory.mktemp("interrupted")
    markets = [instrument(symbol) for symbol in SYMBOLS]
    simulate(root / "lake", markets, DAY, DAY, messages_per_day=3_000, snapshot_interval_s=20.0)
    moto_server.put_folder(root / "lake", "interrupted")
    more = {
        "PIPELINE_CHECKPOINT_SECONDS": "21600",
        "PIPELINE_DEPTH_INTERVAL_MS": "60000",
        "PIPELINE_METRICS": "true",
        **moto_server.environment("s3://interrupted"),
    }
    workspace = Workspace(root / "pipeline", root / "no folder", more=more)
    workspace.configure(*(instrument(symbol) for symbol in SYMBOLS))
    commits = workspace.warehouse.table_dir(TABLES["book_bbo"]) / "_delta_log"
    staging = workspace.warehouse.staging_dir

    running = workspace.start(*days_arguments(DAY))
    # Commit 0 makes the table, commit 1 publishes the day.
    running.until(lambda: any(commits.glob("*1.json")))
    with staging_age(workspace.warehouse) as alive:
        running.kill()
    with staging_age(workspace.warehouse) as killed:
        pass
    saved = sorted(path.name for path in staging.glob("*.resume"))
    finished = workspace.run_days(DAY)
    with workspace.instance() as instance:
        run, *_ = instance.get_runs(limit=1)
        said = [entry.user_message for entry in instance.all_logs(run.run_id)]
        events = instance.get_records_for_run(
            run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
        ).records
        made = [record.event_log_entry.asset_materialization for record in events]
    metadata = {
        each.asset_key.to_user_string(): {
            name: value.value for name, value in each.metadata.items()
        }
        for each in made
    }
    left = sorted(path.suffix for path in staging.iterdir())
    return Interrupted(workspace, (alive, killed), saved, finished, said, metadata, left)


def test_staged_files_are_the_run_s_until_it_ends(interrupted: Interrupted):
    """Also between two publishes nothing young is swept, and once the run is killed all is."""
    alive, killed = interrupted.ages

    assert (KEEP_STAGED, True) == (alive, killed < timedelta(0))


def test_the_rerun_goes_on(interrupted: Interrupted):
    """What the killed run finished is not rebuilt again: its log says where it goes on."""
    assert interrupted.saved == [f"{DAY}-SIMULATED%3A{symbol}.resume" for symbol in SYMBOLS]
    assert interrupted.finished.errors == ""
    assert interrupted.finished.exit_code in {0, 1}  # it ended by itself, whatever the verdict
    assert len([line for line in interrupted.said if "resumed after" in line]) == len(SYMBOLS)


def test_the_rerun_is_a_figure(interrupted: Interrupted):
    """What is resumed is counted by instrument, with the time that took; the kill loses nothing."""
    bridge = Bridge(interrupted.workspace.warehouse.data_dir / FOLDER)
    bridge.update()
    families = dict(bridge.families(time.time_ns()))
    resumes = families[RESUMED_REBUILDS.name].series.values()
    (recovery,) = families[RECOVERY_DURATION.name].series.values()

    assert {f"SIMULATED:{symbol}": 1 for symbol in SYMBOLS} == {
        each.labels["instrument"]: each.value for each in resumes
    }
    assert len(SYMBOLS) == recovery.count


def test_every_row_is_recorded(
    interrupted: Interrupted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What a run and the one after its kill, a capture that fails over, a day of a recording, and
    a look at the health with its alerts record is every row of the table.
    """
    certificates, receiver = make_certificates(tmp_path), Receiver().open()
    for name, value in interrupted.workspace.environment().items():
        if name.startswith("PIPELINE_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("PIPELINE_METRICS", "true")
    monkeypatch.setenv("PIPELINE_ALERT_SLACK_URLS", receiver.url())
    monkeypatch.setenv("PIPELINE_ALERT_CA_BUNDLE", str(certificates.authority))
    monkeypatch.setenv("PIPELINE_BACKUP_STAMP", str(certificates.authority))
    settings = load_settings()

    begin(settings, "command")
    then = datetime.combine(DAY + timedelta(days=3), datetime.min.time(), UTC)
    health = look(settings, (), [], then.timestamp(), 7)
    record_health(health)
    tell(health, settings, Memory.of(interrupted.workspace.warehouse))
    receiver.close()

    begin(settings, "capture")
    sinks = {"jsonl": JsonLines(tmp_path / "live")}
    captured = lived(certificates, script=fail_over, sinks=sinks, redundancy=1)
    StatusFigures("BINANCE").look(captured.recorder.status)

    begin(settings, "run")
    record_market(tmp_path, 100)
    beside = load_settings(data_dir=tmp_path / "data", lake_uri=str(tmp_path), **MINUTES)
    of = Instrument(venue="BINANCE", symbol="BTC-USDT", source=CONVERTER.name)
    publish_day(beside, [of], date(2024, 8, 8))
    begin(load_settings(metrics=False), "run")

    assert set() == METRICS.keys() - recorded(settings.data_dir / FOLDER)


async def fail_over(exchange: FakeExchange, recorder: Recorder) -> None:
    """Has every connection end at once, and a further one come."""
    for _ in range(2):
        await exchange.until_connected(1)
        await exchange.run(50)
        for client in list(exchange.live):
            client.socket.transport.abort()
    await exchange.until_connected(1)
    await exchange.run(50)


def test_nothing_is_left_to_go_on_from(interrupted: Interrupted):
    """Once every table is published the saved rebuilds are gone, and so are the staged files."""
    assert [] == interrupted.left


def test_every_table_is_whole(interrupted: Interrupted):
    """Both instruments are published in each table, every message once."""
    counted = interrupted.workspace.sql(
        "SELECT symbol, count(*), count(DISTINCT sequence_number) FROM books.bbo GROUP BY ALL "
        "ORDER BY ALL"
    ).rows()
    validated = interrupted.workspace.sql(
        "SELECT symbol, messages, messages FROM books.rebuilds ORDER BY ALL"
    ).rows()

    assert counted == validated
    assert [symbol for symbol, *_ in counted] == [*SYMBOLS]


def test_metadata_has_what_the_step_took(interrupted: Interrupted):
    """Every asset tells the CPU seconds of each part of its step, and the memory, as numbers."""
    names = ("load_cpu_seconds", "make_cpu_seconds", "make_wall_seconds", "publish_cpu_seconds")
    took = {
        asset: [metadata[name] for name in (*names, "peak_rss_megabytes")]
        for asset, metadata in interrupted.metadata.items()
    }

    assert took
    assert {float} == {type(each) for numbers in took.values() for each in numbers}
    assert all(min(numbers) >= 0 and numbers[-1] > 0 for numbers in took.values())


@pytest.mark.parametrize("name", BIG)
def test_metadata_has_the_hashes_of_the_published_files(interrupted: Interrupted, name: str):
    """The content hashes of each instrument, part after part, are those of the bytes on disk."""
    workspace = interrupted.workspace
    found = {
        f"SIMULATED:{symbol}": [
            hashlib.sha256(Path(file).read_bytes()).hexdigest()
            for file in current_files(
                workspace.warehouse, TABLES[name], DAY, [f"SIMULATED:{symbol}"]
            )
        ]
        for symbol in SYMBOLS
    }

    assert interrupted.metadata[name]["content_sha256"] == found
    assert all(found.values())


def test_the_record_has_one_hash_of_them(interrupted: Interrupted):
    """`output_sha256` is the hash of the hashes of an instrument's `books.bbo` files, as text."""
    hashes = interrupted.metadata["book_bbo"]["content_sha256"]
    recorded = interrupted.workspace.sql(
        "SELECT exchange || ':' || symbol, output_sha256 FROM books.rebuilds"
    ).rows()

    assert dict(recorded) == {
        name: hashlib.sha256("".join(parts).encode()).hexdigest() for name, parts in hashes.items()
    }
