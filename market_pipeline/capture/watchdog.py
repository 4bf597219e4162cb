"""Which streams are silent for longer than their own rate explains.

A stream is watched from its subscription on, so one that was acknowledged and never sent anything
is found as well. Times are seconds of `time.monotonic()`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Silence", "Watchdog"]

_USUAL_INTERVALS = 20
_SMOOTHING = 0.05
# A fast stream that pauses for a second is no news.
_LEAST_SHARE = 1 / 24


@dataclass
class _Watched:
    since_s: float
    interval_s: float | None = None
    state: Literal["", "warning", "error"] = ""


@dataclass(frozen=True)
class Silence:
    """A stream that has been silent, or is heard again (`level` is then empty)."""

    stream: str
    seconds: float
    level: Literal["", "warning", "error"]


class Watchdog:
    """Watches streams.

    Args:
        warning_s: The longest silence without a warning; 20 usual intervals may be shorter, but
            no less than 1/24 of it (5 s of 120).
        error_s: The longest silence without an error.
    """

    def __init__(self, warning_s: float, error_s: float) -> None:
        self._warning_s = warning_s
        self._error_s = error_s
        self._streams: dict[str, _Watched] = {}

    def subscribed(self, stream: str, now_s: float) -> None:
        """Begins to watch a stream; one that is watched stays as it is."""
        self._streams.setdefault(stream, _Watched(now_s))

    def heard(self, stream: str, now_s: float) -> None:
        """A frame of a stream arrived; streams that nobody subscribed to are not watched."""
        watched = self._streams.get(stream)
        if watched is None:
            return
        passed_s = now_s - watched.since_s
        if watched.interval_s is None:
            watched.interval_s = passed_s
        else:
            watched.interval_s += _SMOOTHING * (passed_s - watched.interval_s)
        watched.since_s = now_s

    def limit_s(self, stream: str) -> float:
        """The silence after which a stream is warned of."""
        interval_s = self._streams[stream].interval_s
        if interval_s is None:
            return self._warning_s
        least_s = self._warning_s * _LEAST_SHARE
        return min(self._warning_s, max(_USUAL_INTERVALS * interval_s, least_s))

    def changes(self, now_s: float) -> list[Silence]:
        """The streams whose state is another than at the last call."""
        found = []
        for stream, watched in self._streams.items():
            silent_s = now_s - watched.since_s
            state: Literal["", "warning", "error"] = ""
            if silent_s > self._error_s:
                state = "error"
            elif silent_s > self.limit_s(stream):
                state = "warning"
            if state != watched.state:
                watched.state = state
                found.append(Silence(stream, silent_s, state))
        return found

    def level(self, stream: str) -> str:
        """Empty, `warning` or `error`, as of the last call of `changes`."""
        watched = self._streams.get(stream)
        return "" if watched is None else watched.state

    def silent(self) -> list[str]:
        """The streams that are warned of, or in error."""
        return [name for name, watched in self._streams.items() if watched.state]
