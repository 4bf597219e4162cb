from __future__ import annotations

import asyncio
import json
import ssl
from itertools import pairwise
from pathlib import Path

import pytest

from market_pipeline.sources.recording.format import RecordKind
from market_pipeline_tests.capture.scenario import lived, scene
from market_pipeline_tests.exchange.market import Market, ReplayedMarket
from market_pipeline_tests.exchange.server import FakeExchange, Faults
from market_pipeline_tests.store.certificates import make_certificates

DEPTH, TRADES = "depth:BTCUSDT", "trades:BTCUSDT"
CAPTURES = Path(__file__).parents[3] / "shared" / "data" / "binance_2024" / "captures"


def depth_ids(payloads):
    """First and last ids of the depth messages among payloads, in their order."""
    frames = (json.loads(payload) for payload in payloads if b"@depth" in payload)
    return [(frame["data"]["U"], frame["data"]["u"]) for frame in frames]


def unseen(outcome):
    """Where depth messages are missing between those that some connection was sent, as gaps."""
    offered = sorted({ids for c in outcome.exchange.clients for ids in depth_ids(c.offered)})
    seen = {ids for c in outcome.exchange.clients for ids in depth_ids(whole(c.sent))}
    known = sorted(seen)
    holes = [(a[1], b[0] - 1) for a, b in pairwise(known) if a[1] + 1 != b[0]]
    return holes, len(offered) - len(seen)


def whole(payloads):
    return [each for each in payloads if each.startswith(b"{") and each.endswith(b"}}")]


class TestRecord:
    def test_each_frame_of_each_connection(self, certificates):
        """All that both connections were sent, compressed, is recorded as it was before that, and
        each message is handed on once.
        """
        outcome = lived(certificates, steps=100)
        extensions = outcome.exchange.clients[0].socket.protocol.extensions
        assert ["permessage-deflate"] == [each.name for each in extensions]
        assert outcome.sent() == outcome.frames()
        assert 400 == sum(outcome.frames().values())
        offered = depth_ids(outcome.exchange.clients[0].offered)
        assert offered == outcome.delivered_ids(DEPTH)
        assert ([], []) == (outcome.gaps(DEPTH), outcome.gaps(TRADES))
        assert outcome.truth() == outcome.follower.levels()

    def test_what_one_loses_the_other_has(self, certificates):
        """Two connections at 2 % loss have lost messages each, and no gap."""
        outcome = lived(certificates, faults=Faults(loss=0.02), steps=150)
        lost = [len(c.offered) - len(c.sent) for c in outcome.exchange.clients]
        assert all(lost)
        assert ([], 0) == unseen(outcome)
        assert [] == outcome.gaps(DEPTH) + outcome.gaps(TRADES)

    def test_gaps_are_where_messages_are_missing(self, certificates):
        """One connection at loss: each hole is a gap between its ids, and no other is."""
        outcome = lived(certificates, faults=Faults(loss=0.05), steps=150, redundancy=1)
        holes, missing = unseen(outcome)
        assert missing > 0
        assert holes == outcome.gaps(DEPTH)

    def test_clock_connections_and_snapshot_are_recorded(self, certificates):
        """The record has the clock's offset, both connections from open to end, and a book."""
        outcome = lived(certificates, steps=20)
        (clock,) = outcome.of(RecordKind.CLOCK)
        assert abs(json.loads(clock.payload)["offset_ns"]) < 1e9
        assert [1, 2] == sorted(entry.connection for entry in outcome.of(RecordKind.CONNECT))
        assert [1, 2] == sorted(entry.connection for entry in outcome.of(RecordKind.DISCONNECT))
        assert outcome.of(RecordKind.SNAPSHOT)


class TestHostile:
    @pytest.mark.parametrize("body", [b"[" * 9_999, b"[]", b"<html>", b'{"serverTime":"\xb2"}'])
    def test_rest_that_is_none(self, certificates, body):
        """Whatever stands where the venue's time should be, the record goes on without it."""

        async def live(exchange, recorder):
            await exchange.until_connected(2)
            await exchange.run(20)

        faults = Faults(rest=[(200, ""), (429, "9" * 400)], body=body)
        outcome = lived(certificates, faults=faults, script=live)
        assert outcome.sent() == outcome.frames()
        assert "offset_ns" not in json.loads(outcome.of(RecordKind.CLOCK)[0].payload)

    def test_a_name_that_nobody_asked_for(self, certificates):
        """A frame of such a stream is recorded, and its name is not that of a stream here."""
        faults = Faults(at={(1, 9): "foreign"})
        outcome = lived(certificates, faults=faults, steps=20, redundancy=1)
        assert outcome.sent() == outcome.frames()
        assert {DEPTH, TRADES, ""} == {entry.stream for entry in outcome.of(RecordKind.FRAME)}

    def test_a_venue_that_hangs_up_is_given_time(self, certificates):
        """After a connection that has not lasted the next one waits."""

        async def hang_up(exchange, recorder):
            await exchange.until_connected(1)
            await exchange.run(5)
            for client in list(exchange.live):
                client.socket.transport.abort()
            async with asyncio.timeout(60):
                while recorder._open:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            assert 1 == len(exchange.clients)

        lived(
            certificates, script=hang_up, redundancy=1,
            retry_first_seconds=60, retry_longest_seconds=60,
        )  # fmt: skip


FAULTS = {
    "none": Faults(),
    "duplicate": Faults(duplicate=0.2),
    "reorder": Faults(reorder=0.1),
    "gap": Faults(at={(1, n): "gap" for n in (41, 42, 43, 120)}),
    "both miss": Faults(at={(c, n): "gap" for c in (1, 2) for n in (41, 43)}),
    "close": Faults(at={(1, 50): "close"}),
    "reset": Faults(at={(1, 50): "reset"}),
    "both reset": Faults(at={(1, 50): "reset", (2, 50): "reset"}),
    "bad json": Faults(at={(1, 50): "bad_json"}),
    "truncated json": Faults(at={(1, 50): "truncated_json"}),
    "oversized": Faults(at={(1, 50): "oversized"}),
    "fragmented": Faults(at={(1, n): "fragmented" for n in range(40, 60)}),
    "stall": Faults(at={(1, 50): "stall"}),
    "slow": Faults(at={(1, 50): "slow"}),
    "shutdown": Faults(at={(1, 50): "shutdown"}),
    "refused snapshots": Faults(rest=[(429, "1"), (418, "1")]),
    "stale snapshot": Faults(stale=5),
    "many": Faults(
        loss=0.02,
        duplicate=0.05,
        reorder=0.05,
        at={
            (1, 60): "reset",
            (2, 90): "bad_json",
            (2, 150): "close",
            (3, 40): "fragmented",
            (4, 50): "gap",
        },
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("redundancy", [1, 2])
@pytest.mark.parametrize("name", FAULTS)
def test_fault(certificates, name, redundancy):
    """All that arrived is there, gaps are where something is missing, the book is right at last."""
    outcome = lived(
        certificates,
        faults=FAULTS[name],
        steps=300,
        redundancy=redundancy,
        silent_warning_seconds=0.1,
        silent_error_seconds=0.2,
    )
    missing = outcome.sent() - outcome.frames()
    assert {} == dict(missing)
    holes, _ = unseen(outcome)
    assert holes == outcome.gaps(DEPTH)
    ids = outcome.delivered_ids(DEPTH)
    assert sorted(set(ids)) == ids
    assert set(depth_ids(whole(outcome.frames()))) == set(ids)
    assert (True, outcome.truth()) == (outcome.was_right, outcome.follower.levels())


@pytest.mark.slow
class TestConnections:
    def test_renewal_loses_nothing(self, certificates):
        """Connections that live for ten seconds are replaced before, and no id is missing."""
        outcome = lived(
            certificates,
            # Sixteen times the age of renewal: a slow machine stands still for seconds.
            faults=Faults(life_s=10.0),
            steps=1_000,
            renewal_seconds=0.6,
        )
        assert len(outcome.exchange.clients) > 4
        offered = sorted({i for c in outcome.exchange.clients for i in depth_ids(c.offered)})
        assert offered == outcome.delivered_ids(DEPTH)
        assert [] == outcome.gaps(DEPTH)
        assert outcome.sent() == outcome.frames()

    def test_stream_without_data_is_found(self, certificates):
        """A subscription that is acknowledged and silent is warned of, then an error."""
        outcome = lived(
            certificates,
            faults=Faults(silent=frozenset({"btcusdt@trade"})),
            steps=300,
            silent_warning_seconds=0.2,
            silent_error_seconds=0.4,
            redundancy=1,
        )
        levels = [level for level, text in outcome.reports if text.startswith(TRADES)]
        assert ["warning", "error"] == levels[:2]
        assert "error" not in [x for x, text in outcome.reports if text.startswith(DEPTH)]

    def test_failover_and_failback(self, certificates):
        """With the primary gone the backup is used, and the primary again once it is back."""
        backup = FakeExchange([Market("BTCUSDT")])

        async def live():
            async with backup.serving(certificates):
                return await scene(
                    certificates,
                    script=fail_and_come_back,
                    more_urls=(backup.websocket,),
                    redundancy=1,
                )

        async def fail_and_come_back(exchange, recorder):
            await exchange.until_connected(1)
            await exchange.run(20)
            exchange.faults.refuse = True
            for client in list(exchange.live):
                client.socket.transport.abort()
            await backup.until_connected(1)
            await backup.run(20)
            exchange.faults.refuse = False
            await exchange.until_connected(1)
            await exchange.run(20)
            async with asyncio.timeout(5):
                while backup.live:
                    await asyncio.sleep(0.01)

        outcome = asyncio.run(live())
        addresses = [json.loads(e.payload)["endpoint"] for e in outcome.of(RecordKind.CONNECT)]
        primary_url = outcome.exchange.websocket
        assert [primary_url, backup.websocket, primary_url] == addresses
        assert outcome.sent() <= outcome.frames()

    def test_refused_weight_is_waited_for(self, certificates):
        """After a 429 nothing is asked for the time of its `Retry-After`."""

        async def refuse_one(exchange, recorder):
            await exchange.until_connected(2)
            # What is asked at the beginning is answered: nothing else is under way at the 429.
            while recorder.status.offset_ms is None or not recorder.status.snapshots:
                await exchange.run(5)
            exchange.faults.rest = [(429, "1")]
            recorder.request_snapshot("BTCUSDT")
            while recorder.status.snapshots < 2:
                await exchange.run(5)

        outcome = lived(certificates, script=refuse_one)
        (refused,) = outcome.exchange.refused_ns
        _, book = sorted(entry.wall_ns for entry in outcome.of(RecordKind.SNAPSHOT))
        assert (1, True) == (outcome.recorder.status.refused, book - refused > 0.8e9)


class TestRefusals:
    def test_older_tls(self, certificates):
        """A server of TLS 1.2 is refused, and the report says what is needed."""
        reports = self.reports(certificates, newest_tls=ssl.TLSVersion.TLSv1_2)
        assert any("TLS 1.3" in text for _, text in reports)

    def test_unknown_certificate(self, certificates, tmp_path):
        """A certificate of an authority that is not trusted is refused."""
        reports = self.reports(certificates, server=make_certificates(tmp_path))
        assert any("certificate" in text for _, text in reports)

    @staticmethod
    def reports(certificates, server=None, newest_tls=None):
        async def script(exchange, recorder):
            async with asyncio.timeout(10):
                while not any(any(link.endpoints._failed.values()) for link in recorder._links):
                    await asyncio.sleep(0.01)

        outcome = lived(
            certificates, script=script, server=server, newest_tls=newest_tls, redundancy=1
        )
        assert [] == outcome.of(RecordKind.FRAME)
        return outcome.reports


@pytest.mark.slow
@pytest.mark.skipif(not CAPTURES.exists(), reason="the sample captures are not on this machine")
def test_real_frames(certificates):
    """The frames of a real capture are recorded and handed on, each byte and each id."""
    market = ReplayedMarket("BTCUSDT", CAPTURES / "spot" / "btcusdt_20240808.gz")
    outcome = lived(
        certificates, markets=[market], steps=3_000, every_s=0.0005, faults=Faults(loss=0.02)
    )
    assert outcome.sent() == outcome.frames()
    holes, _ = unseen(outcome)
    assert holes == outcome.gaps(DEPTH)
