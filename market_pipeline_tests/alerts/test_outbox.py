from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.alerts.alert import Alert
from market_pipeline.alerts.outbox import Delivery, Outbox, Standing
from market_pipeline.errors import PublishError, WarehouseBusyError
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.alerts.factory import a_failed_run, an_alert

TARGETS = ["log", "webhook-1"]
ANOTHER_WRITER = (
    "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
)


def due(outbox: Outbox, now_s: float) -> list[Delivery]:
    """What may be tried at a time, for all receivers."""
    return [each for name in outbox.receivers_due(now_s) for each in outbox.due(name, now_s)]


class TestTake:
    def test_one_delivery_for_each_receiver(self, outbox: Outbox):
        """A new alert waits once for every receiver, to be tried at once."""
        assert 1 == outbox.take([an_alert()], TARGETS, now_s=5.0, run_id="run-1")
        assert [("log", an_alert(), "waiting", 0), ("webhook-1", an_alert(), "waiting", 0)] == [
            (each.target, each.alert, each.state, each.attempts) for each in due(outbox, 5.0)
        ]

    def test_the_same_run_again(self, outbox: Outbox):
        """A run that was taken adds nothing, even if it would say something else now."""
        outbox.take([an_alert()], TARGETS, now_s=5.0, run_id="run-1")

        assert 0 == outbox.take([an_alert(figure=9.0)], TARGETS, now_s=6.0, run_id="run-1")

    def test_the_same_finding_of_another_run(self, outbox: Outbox):
        """A day that is run again with the same result is told once, also by another process."""
        outbox.take([an_alert()], TARGETS, now_s=5.0, run_id="run-1")
        reopened = Outbox(Warehouse(outbox.path.parents[1]))

        assert 0 == reopened.take(
            [an_alert(run_id="run-2", at_ns=9)], TARGETS, now_s=6.0, run_id="run-2"
        )
        assert 2 == len(due(outbox, 7.0))

    def test_each_failed_run(self, outbox: Outbox):
        """Two runs that failed are two alerts."""
        assert [1, 1] == [
            outbox.take([a_failed_run(run)], TARGETS, now_s=5.0, run_id=run) for run in "ab"
        ]

    def test_ended_half_way(self, outbox: Outbox):
        """What was begun and not ended leaves no trace: the run is taken whole the next time."""

        def interrupted() -> Iterator[Alert]:
            yield an_alert()
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            outbox.take(interrupted(), TARGETS, now_s=5.0, run_id="run-1")

        assert 1 == outbox.take([an_alert()], TARGETS, now_s=5.0, run_id="run-1")


class TestEnds:
    TARGETS = ("alertmanager-1", "log")

    def ends(self, outbox: Outbox) -> list[tuple[str, str, int | None]]:
        """What waits, the oldest first: for whom, how bad, and when it was over."""
        return [
            (each.target, each.alert.severity, each.alert.ended_ns)
            for each in reversed(outbox.deliveries())
        ]

    def test_a_check_that_passes_again(self, outbox: Outbox):
        """Who holds alerts in force is sent the end of what was, once; others are not."""
        outbox.take([an_alert(at_ns=1)], self.TARGETS, now_s=5.0)
        passed = [an_alert().subject, an_alert(check="skew").subject]
        for now_s in (6.0, 7.0):
            assert 0 == outbox.take([], self.TARGETS, passed=passed, now_s=now_s)

        begun = [(target, "WARN", None) for target in self.TARGETS]
        assert [*begun, ("alertmanager-1", "WARN", 6_000_000_000)] == self.ends(outbox)
        begin, end = (outbox.deliveries()[at].alert for at in (2, 0))
        assert replace(begin, ended_ns=6_000_000_000) == end

    def test_a_receiver_that_was_down_in_between(self, outbox: Outbox):
        """An end waits for its beginning, however late that is; other subjects wait for neither."""
        outbox.take([an_alert()], self.TARGETS[:1], now_s=5.0)
        (begin,) = outbox.due("alertmanager-1", 5.0)
        outbox.mark(begin, "waiting", now_s=6.0, error="it answered 503", next_attempt_s=60.0)
        outbox.take(
            [an_alert(check="skew")], self.TARGETS[:1], passed=[an_alert().subject], now_s=7.0
        )
        assert ["skew"] == [each.alert.check for each in outbox.due("alertmanager-1", 59.0)]
        assert [("skew", False), ("gap", False), ("gap", True)] == [
            (each.alert.check, each.alert.ended_ns is not None)
            for each in outbox.due("alertmanager-1", 60.0)
        ]
        outbox.mark(begin, "dead", now_s=61.0, error="it answered 503")
        assert ["gap", "skew"] == [each.alert.check for each in outbox.due("alertmanager-1", 61.0)]

    def test_another_severity(self, outbox: Outbox):
        """The severity is one of the labels: what was is over, and something else begins."""
        for severity in ("WARN", "ERROR"):
            outbox.take([an_alert(severity=severity)], self.TARGETS[:1], now_s=5.0)

        assert [("WARN", False), ("WARN", True), ("ERROR", False)] == [
            (severity, ended is not None) for _, severity, ended in self.ends(outbox)
        ]

    @pytest.mark.parametrize("receiver", ["alertmanager-1", "alertmanager-2"], ids=["same", "heir"])
    @pytest.mark.parametrize("taken", [True, False], ids=["taken", "under way"])
    def test_a_dead_beginning_that_is_over(self, outbox: Outbox, receiver: str, taken: bool):
        """Sent again, its end follows it, also to an heir; what is of another severity stays."""
        outbox.take([an_alert()], ["alertmanager-1"], now_s=5.0)
        (begin,) = outbox.due("alertmanager-1", 5.0)
        outbox.mark(begin, "dead", now_s=6.0, error="it answered 503")
        outbox.take([an_alert(severity="ERROR")], [receiver], now_s=7.0)
        under_way = outbox.due(receiver, 7.0)
        for each in under_way if taken else []:
            outbox.mark(each, "sent", now_s=7.0)

        assert (1, 0) == outbox.revive([receiver], now_s=8.0)
        for each in under_way:
            outbox.mark(each, "sent", now_s=8.0)
        assert [("WARN", False), ("WARN", True)] == [
            (each.alert.severity, each.alert.ended_ns is not None)
            for each in outbox.due(receiver, 8.0)
        ]
        assert (0, 0) == outbox.revive([receiver], now_s=9.0)

    def test_a_dead_beginning_of_what_began_again(self, outbox: Outbox):
        """What is in force now follows it, not the end before that."""
        outbox.take([an_alert()], ["alertmanager-1"], now_s=5.0)
        outbox.mark(*outbox.due("alertmanager-1", 5.0), "dead", now_s=6.0, error="x")
        outbox.take([], ["alertmanager-1"], passed=[an_alert().subject], now_s=7.0)
        outbox.take([an_alert(at_ns=9)], ["alertmanager-1"], now_s=8.0)
        for each in outbox.due("alertmanager-1", 8.0):
            outbox.mark(each, "sent", now_s=8.0)
        outbox.revive(["alertmanager-1"], now_s=9.0)

        assert [an_alert(), an_alert(at_ns=9)] == [
            each.alert for each in outbox.due("alertmanager-1", 9.0)
        ]

    def test_many_dead_letters_of_one_thing(self, outbox: Outbox):
        """Each waits again in its place, read once and not once for each of the others."""
        alerts = [
            an_alert(figure=float(number), at_ns=number, ended_ns=ended)
            for number in range(1_500)
            for ended in (None, number)
        ]
        outbox.take(alerts, ["alertmanager-1"], now_s=5.0)
        with closing(sqlite3.connect(outbox.path)) as connection, connection:
            connection.execute("UPDATE deliveries SET state = 'dead'")

        assert (3_000, 0) == outbox.revive(["alertmanager-1"], now_s=6.0)
        assert alerts == [each.alert for each in reversed(outbox.deliveries(["waiting"]))]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from([None, 1.0, 2.0])), max_size=12))
def test_told_when_it_changed(runs):
    """A finding is told if it is another than the one in force; a passed check takes it back."""
    in_force: dict[str, float | None] = {}
    expected = []
    with tempfile.TemporaryDirectory() as folder:
        outbox = Outbox(Warehouse(Path(folder)))
        for number, (symbol, figure) in enumerate(runs):
            alert = an_alert(instrument=f"V:{symbol}", figure=figure, run_id=str(number))
            failed = figure is not None
            outbox.take(
                [alert] if failed else [],
                ["log"],
                passed=[] if failed else [alert.subject],
                run_id=str(number),
                now_s=float(number),
            )
            if failed and in_force.get(symbol) != figure:
                expected.append((f"V:{symbol}", figure))
            in_force[symbol] = figure
        told = [(each.alert.instrument, each.alert.figure) for each in due(outbox, 1e9)]

    assert expected == told


class TestStates:
    def test_marks(self, outbox: Outbox):
        """An attempt counts; after a failed one it waits, and what was sent is not due any more."""
        outbox.take([an_alert()], TARGETS, now_s=5.0)
        first, second = due(outbox, 5.0)
        for each in (first, second):
            outbox.begin(each, now_s=5.5, next_attempt_s=50.0)
        assert ([], 2) == (due(outbox, 49.0), len(due(outbox, 50.0)))
        outbox.mark(first, "waiting", now_s=6.0, error="it answered 500", next_attempt_s=60.0)
        outbox.mark(second, "sent", now_s=6.0)

        assert ([], ["log"]) == (due(outbox, 59.0), [each.target for each in due(outbox, 60.0)])
        assert [("sent", 1, None), ("waiting", 1, "it answered 500")] == [
            (each.state, each.attempts, each.error) for each in outbox.deliveries()
        ]
        assert ["webhook-1"] == [each.target for each in outbox.deliveries(["sent"])]
        assert ["webhook-1"] == [each.target for each in outbox.deliveries(limit=1)]

    def test_a_receiver_that_wants_none_for_a_while(self, outbox: Outbox):
        """No alert is due for it until then, not even a new one, unless it took one meanwhile."""
        outbox.take([an_alert()], ["webhook-1"], now_s=5.0)
        (first,) = outbox.due("webhook-1", 5.0)
        outbox.mark(first, "waiting", now_s=6.0, error="it answered 429", not_before_s=60.0)
        outbox.take([an_alert(check="skew")], TARGETS, now_s=7.0)

        assert [["log"], ["log", "webhook-1"]] == [outbox.receivers_due(at) for at in (59.0, 60.0)]
        outbox.mark(first, "sent", now_s=8.0)
        assert ["log", "webhook-1"] == outbox.receivers_due(9.0)

    def test_a_clock_that_was_set_back(self, outbox: Outbox):
        """What was put off by a clock that was ahead is due, and the last attempt is the last."""
        outbox.take([an_alert(), an_alert(check="skew")], ["webhook-1"], now_s=5.0)
        first, second = outbox.due("webhook-1", 5.0)
        later = {"next_attempt_s": 9_060.0, "not_before_s": 9_060.0}
        outbox.mark(first, "waiting", now_s=9_000.0, error="it answered 429", **later)

        assert ["webhook-1"] == outbox.receivers_due(10.0)
        assert [second.id, first.id] == [each.id for each in outbox.due("webhook-1", 10.0)]
        outbox.mark(second, "sent", now_s=10.0)
        (taken,) = outbox.standings()
        outbox.mark(first, "waiting", now_s=4.0, error="it answered 500")
        (failed,) = outbox.standings()
        assert [(False, 10.0, 10.0), (True, 4.0, 3.999)] == [
            (each.failing, each.failed_s, each.sent_s) for each in (taken, failed)
        ]

    def test_dead_letters_wait_again(self, outbox: Outbox):
        """To their own receiver, else to those of its kind, else not at all."""
        outbox.take([an_alert()], ["webhook-1", "webhook-2", "slack-1", "log"], now_s=5.0)
        for each in due(outbox, 5.0):
            outbox.mark(each, "sent" if each.target == "log" else "dead", now_s=6.0, error="x")

        assert (2, 1) == outbox.revive(["webhook-1", "webhook-3", "log"], now_s=7.0)
        assert {"webhook-1": 0, "webhook-3": 0} == {
            each.target: each.attempts for each in due(outbox, 7.0)
        }
        assert ["slack-1"] == [each.target for each in outbox.deliveries(["dead"])]


class TestStandings:
    def test_of_each_receiver(self, outbox: Outbox):
        """What waits since when and what is dead, and its last attempts, also long after them."""
        for number, check in enumerate(("gap", "skew", "crossed")):
            outbox.take([an_alert(check=check)], TARGETS, now_s=5.0 + number)
        first, second, third = outbox.due("webhook-1", 9.0)
        outbox.mark(first, "dead", now_s=10.0, error="it answered 404")
        outbox.mark(second, "sent", now_s=11.0)
        log, webhook = outbox.standings()

        assert Standing("log", waiting=3, oldest_s=5.0) == log
        assert Standing("webhook-1", 1, 7.0, 1, 11.0, 10.0, "it answered 404") == webhook
        assert (False, 93.0) == (webhook.failing, webhook.oldest_waits_seconds(100.0))

        outbox.mark(third, "waiting", now_s=12.0, error="no connection to it", next_attempt_s=60.0)
        assert ["webhook-1"] == [each.target for each in outbox.standings() if each.failing]
        outbox.mark(third, "sent", now_s=13.0)
        outbox.revive([], now_s=14.0)
        outbox.revive(["webhook-2"], now_s=15.0)

        assert [
            Standing("log", waiting=3, oldest_s=5.0),
            Standing("webhook-1", 0, None, 0, 13.0, 12.0, "no connection to it"),
            Standing("webhook-2", waiting=1, oldest_s=5.0),
        ] == outbox.standings()

    def test_an_outbox_without_them(self, outbox: Outbox):
        """One of an earlier version is taken over: what waits, waits since its last change."""
        outbox.take([an_alert()], TARGETS, now_s=5.0)
        outbox.mark(*outbox.due("log", 5.0), "sent", now_s=6.0)
        with closing(sqlite3.connect(outbox.path)) as connection:
            connection.execute("ALTER TABLE deliveries DROP COLUMN put_in_s")
            connection.execute("ALTER TABLE deliveries DROP COLUMN subject")
            connection.execute("DROP TABLE receivers")
        upgraded = Outbox(Warehouse(outbox.path.parents[1]))

        assert [
            Standing("log", sent_s=6.0),
            Standing("webhook-1", waiting=1, oldest_s=5.0),
        ] == upgraded.standings()

    def test_an_outbox_without_the_time_a_receiver_asked_for(self, outbox: Outbox):
        """One of an earlier version is taken over: no receiver asked for any, nothing is ended."""
        outbox.take([an_alert()], ["log"], now_s=5.0)
        outbox.mark(*outbox.due("log", 5.0), "waiting", now_s=6.0, error="x", not_before_s=9.0)
        with closing(sqlite3.connect(outbox.path)) as connection:
            connection.execute("ALTER TABLE receivers DROP COLUMN not_before_s")
            connection.execute("ALTER TABLE findings DROP COLUMN alert")

        upgraded = Outbox(Warehouse(outbox.path.parents[1]))
        assert ["log"] == upgraded.receivers_due(7.0)
        upgraded.take([], ["alertmanager-1"], passed=[an_alert().subject], now_s=8.0)
        assert 1 == len(upgraded.deliveries())


class TestFile:
    def test_only_its_owner_reads_it(self, tmp_path: Path):
        """The file and what SQLite puts beside it are 0600 whatever the umask."""
        before = os.umask(0)
        try:
            outbox = Outbox(Warehouse(tmp_path / "data"))
            outbox.take([an_alert()], TARGETS, now_s=5.0)
        finally:
            os.umask(before)

        assert {0o600} == {
            stat.S_IMODE(file.stat().st_mode) for file in outbox.path.parent.iterdir()
        }

    def test_opened_while_another_thread_writes(self, outbox: Outbox, monkeypatch):
        """The writer keeps its lock: to POSIX any close of a file ends a process's locks on it."""
        monkeypatch.setattr("market_pipeline.alerts._outbox_file._WAIT_SECONDS", 0)
        with closing(sqlite3.connect(outbox.path, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            with pytest.raises(WarehouseBusyError):
                Outbox(Warehouse(outbox.path.parents[1]))
            other = subprocess.run(
                [sys.executable, "-c", ANOTHER_WRITER, outbox.path],
                capture_output=True,
                text=True,
                check=False,
            )

        assert "database is locked" in other.stderr

    def test_damaged(self, outbox: Outbox, tmp_path: Path):
        """A file that is no database is our own error, with the file and what to do."""
        outbox.path.write_bytes(b"no database" * 1_000)
        with pytest.raises(PublishError, match="the outbox of alerts cannot be used") as caught:
            Outbox(Warehouse(tmp_path / "data"))

        assert str(outbox.path) == caught.value.file

    def test_an_alert_that_cannot_be_read(self, outbox: Outbox):
        """It is a dead letter, and what waits behind it is due; `revive` leaves it as it is."""
        outbox.take([an_alert(), an_alert(check="skew")], ["webhook-1"], now_s=5.0)
        for text in ("{no json", "{}", '{"day": null, "of": "a later version"}'):
            with closing(sqlite3.connect(outbox.path)) as connection, connection:
                connection.execute("UPDATE deliveries SET alert = ? WHERE id = 1", [text])

            assert ["skew"] == [each.alert.check for each in outbox.due("webhook-1", 5.0)]
            assert (0, 0) == outbox.revive(["webhook-1"], now_s=6.0)
            assert [(1, 1)] == [(each.waiting, each.dead) for each in outbox.standings()]
