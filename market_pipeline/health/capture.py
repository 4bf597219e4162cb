"""Captures by what their recorders say of themselves: streams that are silent, disk, clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec

from market_pipeline.capture.status import Status
from market_pipeline.config.capture import CaptureSettings
from market_pipeline.doctor.finding import Finding
from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline.warehouse.heartbeats import Heartbeat

__all__ = ["check_captures", "check_clock", "statuses"]

_FARTHEST_MS = 100.0
_LOOK = "`market-pipeline recording list` shows what is recorded; the recorder's output says why."
_status = msgspec.json.Decoder(Status)


def statuses(beats: Sequence[Heartbeat]) -> dict[str, Status | None]:
    """What the recorders say of themselves, by process and host; None where it cannot be read, as
    that of another version.
    """
    found: dict[str, Status | None] = {}
    for each in beats:
        if each.process.startswith("capture-") and bytes(each.state) != b"null":
            name = f"{each.process} on {each.host}"
            found[name] = None
            with suppress(msgspec.DecodeError, RecursionError):
                found[name] = _status.decode(each.state)
    return found


def check_captures(
    captures: dict[str, Status | None], settings: CaptureSettings, now_ns: int
) -> Iterator[Finding]:
    """Does something come over every stream, and can it be written?"""
    if not captures:
        yield "ok", "nothing is captured here"
    for name, status in captures.items():
        if status is None:
            yield (
                "warn",
                f"{name} records, and what it says of itself cannot be read",
                "Start it again: it is likely of another version than this one.",
            )
            continue
        if status.disk:
            yield "error", f"{name} can write nothing: {status.disk}", "Make room on its disk."
            continue
        silent_s = {
            stream: (now_ns - each.last_wall_ns) / NS_PER_SECOND
            for stream, each in status.streams.items()
            if each.last_wall_ns is not None
        }
        never = [stream for stream, each in status.streams.items() if each.last_wall_ns is None]
        late = {
            stream: seconds
            for stream, seconds in silent_s.items()
            if seconds > settings.silent_warning_seconds
        }
        texts = [f"nothing came over {stream} for {s:,.0f} s" for stream, s in late.items()]
        texts += [f"nothing ever came over {stream}" for stream in never]
        if texts:
            is_error = any(s > settings.silent_error_seconds for s in late.values())
            yield "error" if is_error else "warn", f"{name}: {'; '.join(texts)}", _LOOK
        else:
            yield "ok", f"{name}: {len(silent_s):,} streams come, {status.frames:,} frames so far"


def check_clock(captures: dict[str, Status | None]) -> Iterator[Finding]:
    """Does this machine's clock agree with the venues'?"""
    offsets = {name: each.offset_ms for name, each in captures.items() if each is not None}
    if all(each is None for each in offsets.values()):
        yield "ok", "no capture compares the clock"
    for name, offset_ms in offsets.items():
        if offset_ms is None:
            continue
        text = f"the clock is {offset_ms:+,.1f} ms from the venue's, by {name}"
        if abs(offset_ms) <= _FARTHEST_MS:
            yield "ok", text
        else:
            yield "warn", text, "Have the system set its clock by a time server (chrony, ntpd)."
