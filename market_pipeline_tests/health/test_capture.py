from __future__ import annotations

import msgspec
import pytest

from market_pipeline.capture.status import Status, StreamStatus
from market_pipeline.config.capture import CaptureSettings
from market_pipeline.health.capture import check_captures, check_clock, statuses
from market_pipeline.warehouse.heartbeats import Heartbeat

NOW_NS = 10**18


def heard(*seconds_ago: float | None, **more) -> dict[str, Status]:
    """A capture whose streams last brought something so long ago; None for never."""
    streams = {
        f"depth:S{n}": StreamStatus(last_wall_ns=None if s is None else NOW_NS - round(s * 10**9))
        for n, s in enumerate(seconds_ago)
    }
    return {"capture-X on box": Status(NOW_NS, streams=streams, **more)}


@pytest.mark.parametrize(
    ("captures", "status"),
    [
        (heard(1, 119), "ok"),
        (heard(1, 121), "warn"),
        (heard(1, None), "warn"),
        (heard(1, 301), "error"),
        (heard(1, disk="No space left on device"), "error"),
    ],
)
def test_streams(captures, status):
    """Silence of 120 s warns, of 300 s is an error, and so is a disk that takes nothing."""
    ((found, *_),) = check_captures(captures, CaptureSettings(), NOW_NS)

    assert status == found


@pytest.mark.parametrize(("offset_ms", "status"), [(-100.0, "ok"), (100.5, "warn"), (-2e3, "warn")])
def test_clock(offset_ms, status):
    """A clock that is more than 100 ms off warns."""
    ((found, *_),) = check_clock(heard(1, offset_ms=offset_ms))

    assert status == found


def test_a_clock_nobody_measured():
    """Nothing is wrong with it, and neither where nothing is captured."""
    assert ["ok"] == [status for status, *_ in check_clock(heard(1))]
    assert ["ok"] == [status for status, *_ in check_clock({})]


def test_statuses_are_read_from_heartbeats():
    """Of recorders that said something; what cannot be read warns, instead of being no capture."""
    said = msgspec.Raw(msgspec.json.encode(Status(NOW_NS, frames=3)))
    beats = [
        Heartbeat("capture-X", "box", 1, NOW_NS, said),
        Heartbeat("capture-Y", "box", 2, NOW_NS),
        Heartbeat("capture-Z", "box", 2, NOW_NS, msgspec.Raw(b'{"frames":1}')),
        Heartbeat("other", "box", 3, NOW_NS, said),
    ]

    found = statuses(beats)
    assert {"capture-X on box": 3, "capture-Z on box": None} == {
        name: each and each.frames for name, each in found.items()
    }
    checked = check_captures(found, CaptureSettings(), NOW_NS)
    assert ["ok", "warn"] == [status for status, *_ in checked]
