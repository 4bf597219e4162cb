from __future__ import annotations

import os
import socket
import time

import msgspec
import pytest
from pydantic import SecretStr

from market_pipeline.alerts.capture import CaptureAlerts, hung_captures, stopped_captures
from market_pipeline.alerts.missing_frames import frames_missing
from market_pipeline.alerts.outbox import Outbox
from market_pipeline.alerts.payloads import slack_payload, webhook_payload
from market_pipeline.capture.status import Status, StreamStatus
from market_pipeline.cli.capture import _Reports
from market_pipeline.config.settings import load_settings
from market_pipeline.sources.recording import RecordingOf, RecordingWriter, RecordKind
from market_pipeline.sources.recording.format import Entry
from market_pipeline.sources.recording.journal import Journal
from market_pipeline.warehouse.heartbeats import Sign, beat, heartbeats
from market_pipeline_tests.alerts.factory import LINKS

GAP = ("BINANCE:BTCUSDT", "here", "one gap", "WARN", 1_800_000_000_000_000_000)


@pytest.fixture
def settings(tmp_path, receiver):
    return load_settings(
        data_dir=tmp_path / "data",
        lake_uri=str(tmp_path / "lake"),
        alert_webhook_urls=receiver.url(),
        capture__venue="binance_spot",
        capture__symbols="BTCUSDT",
    )


def with_a_gap() -> list[Status]:
    """Two looks, and a gap between them."""
    looks = [Status(GAP[-1] + n, streams={"depth:BTCUSDT": StreamStatus()}) for n in range(2)]
    looks[1].streams["depth:BTCUSDT"].gaps = 1
    return looks


class TestCaptureAlerts:
    def test_delivers_without_dagster(self, settings, warehouse, receiver):
        """A gap is with the receiver when the recorder ends, and in the outbox as sent."""
        with CaptureAlerts(lambda: settings, "BINANCE") as alerts:
            for look in with_a_gap():
                alerts.look(look)
        (taken,) = receiver.taken
        sent = {
            each.target.partition("-")[0]: each.state for each in Outbox(warehouse).deliveries()
        }
        assert ("firing", "BINANCE:BTCUSDT", socket.gethostname()) == (
            taken["status"],
            *(taken["commonLabels"][name] for name in ("instrument", "host")),
        )
        # The log's line is the daemon's to write.
        assert {"webhook": "sent", "log": "waiting"} == sent

    def test_a_receiver_that_is_replaced(self, settings, receiver):
        """As with an address that holds a new token, also after there was none: what comes then is
        sent there.
        """
        given = [
            settings.model_copy(update={"alert_webhook_urls": SecretStr("http://127.0.0.1:1")})
        ]
        with CaptureAlerts(lambda: given[-1], "BINANCE") as alerts:
            given.append(settings.model_copy(update={"alert_webhook_urls": None}))
            alerts.look(Status(GAP[-1]))
            given.append(settings)
            for look in with_a_gap():
                alerts.look(look)
        assert ["firing"] == [each["status"] for each in receiver.taken]

    def test_an_outbox_that_cannot_be_used(self, settings, tmp_path, receiver):
        """As on a full disk: the alert is sent all the same, and once."""
        (tmp_path / "data" / "state" / "alerts.sqlite").mkdir(parents=True)
        with CaptureAlerts(lambda: settings, "BINANCE") as alerts:
            for look in [*with_a_gap(), Status(GAP[-1] + 2), Status(GAP[-1] + 3)]:
                alerts.look(look)
        assert ["firing"] == [each["status"] for each in receiver.taken]

    def test_without_a_receiver(self, settings, tmp_path):
        """Where only the log would hear of it nothing is written."""
        quiet = settings.model_copy(update={"alert_webhook_urls": None})
        with CaptureAlerts(lambda: quiet, "BINANCE") as alerts:
            for look in with_a_gap():
                alerts.look(look)
            alerts.ended(OSError("gone"))
        assert [] == list((tmp_path / "data").glob("*"))


def test_end_of_an_episode(outbox):
    """An end is sent if the beginning was, and then the next beginning is new again."""
    began, over = frames_missing(*GAP), frames_missing(*GAP, ended_ns=GAP[-1] + 5)
    taken = [outbox.take([each], ["log"], now_s=1.0) for each in (over, began, began, over, over)]
    assert [0, 1, 0, 1, 0] == taken
    again = frames_missing(*GAP[:-1], GAP[-1] + 9)
    assert 1 == outbox.take([again], ["log"], now_s=2.0)


def test_payload_of_an_end():
    """Alertmanager's `resolved`, with the labels and the start of what it ends."""
    began, over = (
        webhook_payload(frames_missing(*GAP, ended_ns=ended), LINKS)
        for ended in (None, GAP[-1] + 5 * 10**9)
    )
    (first,), (last,) = began["alerts"], over["alerts"]
    assert ("resolved", "2027-01-15T08:00:05.000Z") == (over["status"], last["endsAt"])
    same = ("labels", "fingerprint", "startsAt")
    assert [first[name] for name in same] == [last[name] for name in same]
    slack = slack_payload(frames_missing(*GAP, ended_ns=GAP[-1] + 5), LINKS)
    assert slack["text"].startswith("no more: frames are missing BINANCE:BTCUSDT: On here: one gap")


HOSTS = [(socket.gethostname(), "s"), ("other", "s")]


class TestStoppedCaptures:
    def recorder(self, settings, symbol, host):
        now_ns = time.time_ns()
        of = RecordingOf("BINANCE", symbol, host, "s")
        writer = RecordingWriter(settings.lake_path / "recording", of)
        writer.append(RecordKind.FRAME, now_ns, now_ns, 1, "", b"{}")
        writer.flush()
        return writer

    def test_left_open(self, settings):
        """A file of this host that nobody writes is found, once it is quiet for long enough."""
        here = socket.gethostname()
        writers = [
            self.recorder(settings, symbol, host)
            for symbol, host in (("DEAD", here), ("LIVE", here), ("FAR", "other"))
        ]
        for number in (0, 2):
            os.close(writers[number]._file)  # as the kernel does when the process ends
        now_s = time.time()
        found = stopped_captures(settings, now_s + 11, "ERROR", 10.0)
        writers[1].close()
        assert ["BINANCE:DEAD"] == [each.instrument for each in found]
        assert [] == stopped_captures(settings, now_s, "ERROR", 10.0)

    def test_one_that_hangs(self, settings, warehouse):
        """A recorder whose files are open is reported once it has given no sign for long enough;
        one that was killed, or that its host alone can know, is not.
        """
        writer, now_s = self.recorder(settings, "LIVE", socket.gethostname()), time.time()
        beat(warehouse, "capture-BINANCE")
        beat(warehouse, "capture-OTHER")
        found = [hung_captures(settings, now_s + later) for later in (20, 40)]
        os.close(writer._file)  # as the kernel does when the process ends
        killed = hung_captures(settings, now_s + 40)
        assert [[], ["BINANCE:*"]] == [[each.instrument for each in alerts] for alerts in found]
        assert ("ERROR", []) == (found[1][0].severity, killed)

    def test_one_that_follows_one_that_was_killed(self, settings, warehouse):
        """It gives a sign before its first file is open, so that the old one does not count."""
        beat(warehouse, "capture-BINANCE")
        (old,), (path,) = heartbeats(warehouse), warehouse.heartbeats_dir.iterdir()
        path.write_bytes(msgspec.json.encode(msgspec.structs.replace(old, wall_ns=0)))
        _Reports(None, Sign(warehouse, "capture-BINANCE"), None)
        writer = self.recorder(settings, "LIVE", socket.gethostname())
        assert [] == hung_captures(settings, time.time())
        writer.close()

    def test_a_journal_alone(self, settings):
        """What was killed before its first block left a journal, which is found as a file is."""
        now_ns, folder = time.time_ns(), settings.lake_path / "recording" / "BINANCE"
        entry = Entry("DEAD", RecordKind.FRAME, now_ns, now_ns, 1, "", b"{}")
        journals = [Journal(folder, "BINANCE", *of) for of in HOSTS]
        for each in journals:
            each.append([entry])
        now_s = time.time()
        assert [] == stopped_captures(settings, now_s + 11, "ERROR", 10.0)
        for each in journals:
            os.close(each._file)  # as the kernel does when the process ends
        (found,) = stopped_captures(settings, now_s + 11, "ERROR", 10.0)
        assert "BINANCE:DEAD" == found.instrument
        assert "recording recover" in found.summary
        assert [] == stopped_captures(settings, now_s, "ERROR", 10.0)
