"""The event log whose connections stay open."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import dagster as dg
import pytest
import sqlalchemy
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage

from market_pipeline.defs.event_log import EventLog


@dg.asset
def price() -> int:
    """An asset with an event or two."""
    return 1


@dg.asset(partitions_def=dg.DailyPartitionsDefinition("2025-01-01"))
def daily_price() -> dg.MaterializeResult:
    """An asset of days, which tells something."""
    return dg.MaterializeResult(metadata={"rows": 3, "text": dg.MetadataValue.md("*x*")})


@dg.asset
def doubled(price: int) -> int:
    """An asset with an input."""
    return 2 * price


class Tells(dg.ConfigurableIOManager):
    """Tells something of each input."""

    metadata: dict[str, int]

    def handle_output(self, context: dg.OutputContext, obj: int) -> None:
        """Keeps nothing."""

    def load_input(self, context: dg.InputContext) -> int:
        """One for all."""
        context.add_input_metadata(self.metadata)
        return 1


def stored(storage: ConsolidatedSqliteEventLogStorage, run_id: str) -> list[str]:
    return [each.event_log_entry.message for each in storage.get_records_for_run(run_id).records]


class TestEventLog:
    def test_a_run_opens_the_file_once(self, on_disk):
        """All events of a run, each in a transaction of its own, go through one connection."""
        log = on_disk.event_log_storage
        assert isinstance(log, EventLog)
        opened, used = [], []
        sqlalchemy.event.listen(log._engine, "connect", lambda *_: opened.append(1))
        sqlalchemy.event.listen(log._engine, "checkout", lambda *_: used.append(1))
        assert dg.materialize([price], instance=on_disk).success
        assert (True, True) == (len(opened) <= 1, len(used) > 9)

    def test_dagsters_own_log_reads_what_it_wrote(self, on_disk, tmp_path):
        """The file is Dagster's: its own class reads every event from it."""
        run_id = dg.materialize([price], instance=on_disk).run_id
        own = ConsolidatedSqliteEventLogStorage(str(tmp_path))
        ours = stored(on_disk.event_log_storage, run_id)
        assert (ours, True) == (stored(own, run_id), len(ours) > 5)

    def test_inputs_are_kept_where_they_say_something(self, on_disk):
        """That a step was given an input is not kept, unless its manager tells something of it."""
        types = {dg.DagsterEventType.LOADED_INPUT, dg.DagsterEventType.STEP_INPUT}
        kept = []
        for told in ({}, {"rows": 3}):
            tells = Tells(metadata=told)
            run = dg.materialize(
                [price, doubled], instance=on_disk, resources={"io_manager": tells}
            )
            kept.append(on_disk.get_records_for_run(run.run_id, of_type=types).records)
            assert 2 == sum(event.event_type in types for event in run.all_events)

        assert [0, 1] == [len(each) for each in kept]
        assert "LOADED_INPUT" == kept[1][0].event_log_entry.dagster_event_type.value

    def test_newest_of_an_asset_is_as_dagsters_own(self, on_disk, tmp_path):
        """What a step asks of its inputs is answered alike: none, made, made again and wiped."""
        log, own = on_disk.event_log_storage, ConsolidatedSqliteEventLogStorage(str(tmp_path))
        asked = daily_price.key, dg.DagsterEventType.ASSET_MATERIALIZATION
        found = []
        for change in (None, "2025-01-01", "2025-01-01", "2025-01-02", "wipe", "2025-01-02"):
            if change == "wipe":
                on_disk.wipe_assets([daily_price.key])
            elif change:
                dg.materialize([daily_price], instance=on_disk, partition_key=change)
            records = log.get_asset_records([daily_price.key])
            assert own.get_asset_records([daily_price.key]) == records
            for days in (["2025-01-01"], ["2025-01-02"], ["2025-01-01", "2025-01-02"]):
                tags = log.get_latest_tags_by_partition(*asked, [DATA_VERSION_TAG], days)
                assert own.get_latest_tags_by_partition(*asked, [DATA_VERSION_TAG], days) == tags
                found.append([*tags])

        one, two = "2025-01-01", "2025-01-02"
        made, both = [[one], [], [one]], [[one], [two], [one, two]]
        assert [[], [], [], *made, *made, *both, [], [], [], [], [two], [two]] == found

    def test_another_process_makes_an_asset(self, on_disk, tmp_path):
        """What this process wrote of an asset is not taken for the newest after that."""
        dg.materialize([price], instance=on_disk)
        other = EventLog(str(tmp_path))
        ours = on_disk.event_log_storage.get_asset_records([price.key])
        event = ours[0].asset_entry.last_materialization_record.event_log_entry
        other.store_event(event._replace(run_id="other"))

        (newest,) = on_disk.event_log_storage.get_asset_records([price.key])
        assert "other" == newest.asset_entry.last_materialization_record.run_id

    def test_keeps_nobody_out_between_events(self, on_disk, tmp_path):
        """A connection that stays open has no transaction: another process may lock the file."""
        dg.materialize([price], instance=on_disk)
        with closing(sqlite3.connect(tmp_path / "event_log.db", timeout=0)) as other:
            other.execute("BEGIN EXCLUSIVE")
            assert other.in_transaction

    def test_a_failed_transaction_leaves_nothing(self, on_disk):
        """What raises inside a transaction is rolled back, and the connection is used again."""
        log = on_disk.event_log_storage
        count = "SELECT count(*) FROM event_logs"

        def fail() -> None:
            with log.index_connection() as connection:
                connection.exec_driver_sql("DELETE FROM event_logs")
                raise RuntimeError

        dg.materialize([price], instance=on_disk)
        with log.index_connection() as connection:
            before = connection.exec_driver_sql(count).scalar()
        with pytest.raises(RuntimeError):
            fail()
        with log.index_connection() as connection:
            assert (before, True) == (connection.exec_driver_sql(count).scalar(), before > 0)

    def test_an_event_is_kept_whole_or_not_at_all(self, on_disk, monkeypatch):
        """Where what a materialization tells of its asset cannot be kept, neither is the event."""
        log = on_disk.event_log_storage
        dg.materialize([price], instance=on_disk)
        (made,) = log.fetch_materializations(price.key, 5).records

        def broken(*_: object) -> None:
            raise RuntimeError

        with log.index_connection() as connection:
            before = connection.exec_driver_sql("SELECT count(*) FROM event_logs").scalar()
        monkeypatch.setattr(log, "_store_asset_event", broken)
        with pytest.raises(RuntimeError):
            log.store_event(made.event_log_entry)
        with log.index_connection() as connection:
            after = connection.exec_driver_sql("SELECT count(*) FROM event_logs").scalar()
        assert before == after

    def test_disposing_closes_the_file(self, on_disk):
        """Nothing stays open behind an instance that ended."""
        log = on_disk.event_log_storage
        dg.materialize([price], instance=on_disk)
        opened = log._engine.pool.checkedin()
        log.dispose()
        assert (1, 0) == (opened, log._engine.pool.checkedin())
