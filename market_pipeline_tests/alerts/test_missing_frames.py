from __future__ import annotations

import pytest

from market_pipeline.alerts.missing_frames import MissingFrames
from market_pipeline.capture.status import Status, StreamStatus
from market_pipeline.capture.stream_state import CUT
from market_pipeline.config.capture import CaptureSettings

SECOND = 10**9
BEGAN = 1_800_000_000 * SECOND


class Capture:
    """A capture of two symbols, looked at every second."""

    def __init__(self):
        settings = CaptureSettings(symbols="BTCUSDT,ETHUSDT")
        names = ("depth:BTCUSDT", "trades:BTCUSDT", "depth:ETHUSDT")
        self.status = Status(BEGAN, streams={name: StreamStatus(frames=1) for name in names})
        for stream in self.status.streams.values():
            stream.last_wall_ns = BEGAN
        self.watch, self.found = MissingFrames("BINANCE", "here", settings), []

    @property
    def depth(self) -> StreamStatus:
        return self.status.streams["depth:BTCUSDT"]

    def live(self, seconds, each=lambda: None):
        """Looks so often; returns how, and of what, each new alert speaks."""
        found = []
        for _ in range(seconds):
            each()
            found += self.watch.look(self.status)
            self.status.wall_ns += SECOND
        self.found += found
        over = {False: "began", True: "over"}
        return [(over[e.ended_ns is not None], e.severity, e.instrument) for e in found]


@pytest.fixture
def capture() -> Capture:
    """One that has been well for so long that nothing before it is in force."""
    made = Capture()
    made.live(200)
    made.found.clear()
    return made


def lose(capture):
    capture.depth.gaps += 1


def down(capture):
    capture.depth.downtime_s += 1.0


def test_all_well_ends_what_was_reported_before():
    """A recorder that begins ends, once, what one before it may have left in force."""
    ends = [("over", severity) for severity in ("WARN", "ERROR")] * 3
    assert ends == [each[:2] for each in Capture().live(300)]


@pytest.mark.parametrize(
    ("sign", "text"),
    [
        (lose, "On here: depth:BTCUSDT: 1 gaps that no one filled."),
        (down, "On here: depth:BTCUSDT: no connection has had it for 1.0 s."),
    ],
)
def test_an_episode_is_reported_once(capture, sign, text):
    """A sign every 50 s for ten minutes is one alert, and one for its end two minutes after."""
    begun = capture.live(1, lambda: sign(capture))
    during = [
        each
        for _ in range(12)
        for each in capture.live(49) + capture.live(1, lambda: sign(capture))
    ]
    assert [("began", "WARN", "BINANCE:BTCUSDT")] == begun + during
    assert text == capture.found[0].summary
    over = [("over", severity, "BINANCE:BTCUSDT") for severity in ("WARN", "ERROR")]
    assert ([], over, []) == (capture.live(119), capture.live(2), capture.live(300))
    assert capture.found[0].at_ns == capture.found[-1].at_ns


def test_totals_of_an_episode(capture):
    """Its end says how many gaps there were and how long no connection had a stream."""
    capture.live(3, lambda: (lose(capture), down(capture)))
    capture.live(200)
    assert (
        "there were 3 gaps, and 3.0 s of streams without a connection" in capture.found[-1].summary
    )


def test_a_long_outage_is_an_error(capture):
    """Half a minute without any connection is an error; it is reported beside the warning."""
    found = capture.live(60, lambda: down(capture))
    assert [("began", "WARN"), ("began", "ERROR")] == [each[:2] for each in found]
    assert 1 == len({each.at_ns for each in capture.found})


def test_connecting():
    """The moment until the first connection is there is no loss."""
    capture = Capture()
    capture.depth.last_wall_ns = None
    capture.live(5, lambda: down(capture))
    capture.depth.last_wall_ns = BEGAN
    assert [] == capture.live(1, lambda: down(capture)) + capture.live(9)


def test_no_connection_at_the_start():
    """A venue that cannot be reached from the start is an error after half a minute."""
    capture = Capture()
    capture.depth.last_wall_ns = None
    found = capture.live(60, lambda: down(capture))
    assert [("began", "ERROR", "BINANCE:BTCUSDT")] == found


def test_silence(capture):
    """Silence of all connections is reported when it goes on for 20 s, at once as an error."""
    capture.depth.unheard = "warning"
    assert [[], [("began", "WARN", "BINANCE:BTCUSDT")]] == [capture.live(20), capture.live(2)]
    capture.depth.unheard = "error"
    assert [("began", "ERROR", "BINANCE:BTCUSDT")] == capture.live(5)


def test_what_is_missing_of_no_record(capture):
    """One silent connection of two, a book that our own queue lost, and time of it are no sign."""
    capture.depth.silence, capture.depth.gap_s = "error", 50.0
    capture.depth.book, capture.depth.reason = "resync", CUT
    assert [] == capture.live(300)


def test_a_lost_book(capture):
    """Where a checksum alone shows a loss, the book that is lost by it is the sign."""
    capture.depth.book, capture.depth.reason = "resync", "checksum 1 expected, the book has 2"
    assert [("began", "WARN", "BINANCE:BTCUSDT")] == capture.live(5)


def test_full_disk(capture):
    """A disk that takes nothing is about all symbols."""
    capture.status.disk = "No space left on device"
    assert [("began", "ERROR", "BINANCE:*")] == capture.live(5)


def test_a_recorder_that_stood_still(capture):
    """One that hung says so once it goes on; later it ends that, and what others said of it."""
    capture.status.wall_ns += 30 * SECOND
    found = capture.live(150)
    assert ("began", "WARN", "BINANCE:*") == found[0]
    assert {("over", "WARN", "BINANCE:*"), ("over", "ERROR", "BINANCE:*")} == {*found[1:]}
    assert "did nothing for 31 s" in capture.found[0].summary
