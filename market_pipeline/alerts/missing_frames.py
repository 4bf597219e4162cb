"""Which captured instruments miss frames: an alert for each episode, and one for its end.

An episode begins with the first sign and ends when there was none for `silent_warning_seconds`, so
that a line that loses something every few seconds is reported once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from market_pipeline.alerts.alert import Alert, Severity
from market_pipeline.capture.status import Status, StreamStatus
from market_pipeline.capture.stream_state import CUT, BookState
from market_pipeline.config.capture import CaptureSettings
from market_pipeline.quality.intervals import NS_PER_SECOND, utc_text
from market_pipeline.warehouse.heartbeats import BEAT_SECONDS

__all__ = ["ALL_SYMBOLS", "MissingFrames", "frames_missing"]

ALL_SYMBOLS = "*"
"""The symbol of what is wrong with a recorder as a whole."""

_STOOD_STILL_NS = 2 * round(BEAT_SECONDS) * NS_PER_SECOND
"""Looks are seconds apart; after less than a hung recorder is reported by those who see it."""
_SEVERITIES: tuple[Severity, ...] = ("WARN", "ERROR")


def frames_missing(
    instrument: str,
    host: str,
    text: str,
    severity: Severity,
    began_ns: int,
    ended_ns: int | None = None,
) -> Alert:
    """An alert about an instrument that a host records: that frames are missing, or no more are.

    Args:
        instrument: `EXCHANGE:SYMBOL`, the symbol as the venue spells it, or `*` for all.
        host: Which machine.
        text: What was found.
        severity: WARN, or ERROR where nothing comes or can be kept.
        began_ns, ended_ns: When it began and was over, ns UTC; the latter None while it goes on.
    """
    return Alert(
        kind="frames_missing",
        severity=severity,
        summary=f"On {host}: {text}.",
        at_ns=began_ns,
        instrument=instrument,
        host=host,
        ended_ns=ended_ns,
    )


class _Sign(NamedTuple):
    severity: Severity
    text: str


class _Counts(NamedTuple):
    gaps: int = 0
    down_s: float = 0.0
    is_heard: bool = False


@dataclass(slots=True)
class _Episode:
    """Frames of an instrument are missing.

    Attributes:
        began_ns, last_ns: When the first and the last sign was seen.
        before: Of all its streams, at the look before it began.
        reported: As what it was reported.
    """

    began_ns: int
    last_ns: int
    before: _Counts
    reported: set[Severity] = field(default_factory=set)


class MissingFrames:
    """Compares each look at a capture with the one before.

    What a recorder before this one may have reported is ended too, once all is well; the outbox
    knows whether it was in force.

    Args:
        exchange, host: Whose symbols, and which machine.
        settings: What is recorded, and how long silence may last.
    """

    def __init__(self, exchange: str, host: str, settings: CaptureSettings) -> None:
        self._exchange, self._host = exchange, host
        self._symbols = (*settings.symbols, ALL_SYMBOLS)
        # By default 20 s after the 5 s of the watchdog of a fast stream: known within a minute.
        self._silent_ns = round(settings.silent_warning_seconds / 6 * NS_PER_SECOND)
        self._long_down_s = settings.silent_warning_seconds / 4
        self._whole_ns = round(settings.silent_warning_seconds * NS_PER_SECOND)
        self._before: dict[str, _Counts] = {}
        self._down_from_s: dict[str, float] = {}
        self._unheard_from_ns: dict[str, int] = {}
        self._episodes: dict[str, _Episode] | None = None
        self._looked_ns: int | None = None

    def look(self, status: Status) -> list[Alert]:
        """What is new since the last look: episodes that began, became worse, or ended."""
        now_ns = status.wall_ns
        if self._episodes is None:
            self._episodes = {each: _Episode(now_ns, now_ns, _Counts()) for each in self._symbols}
        looked_ns, self._looked_ns = self._looked_ns or now_ns, now_ns
        found = list[Alert]()
        for symbol in self._symbols:
            streams = {
                name: stream
                for name, stream in status.streams.items()
                if name.partition(":")[2] == symbol
            }
            signs = [sign for each in streams.items() for sign in self._signs(*each, now_ns)]
            if symbol == ALL_SYMBOLS and status.disk:
                signs = [_Sign("ERROR", f"nothing can be written: {status.disk}")]
            if symbol == ALL_SYMBOLS and (stood_ns := now_ns - looked_ns) >= _STOOD_STILL_NS:
                seconds = stood_ns / NS_PER_SECOND
                signs.append(
                    _Sign("WARN", f"it did nothing for {seconds:,.0f} s, or its clock was set")
                )
            found += self._alerts(self._episodes, symbol, streams, signs, now_ns)
        self._before = {
            name: _Counts(stream.gaps, stream.downtime_s, stream.last_wall_ns is not None)
            for name, stream in status.streams.items()
        }
        return found

    def _alerts(
        self,
        episodes: dict[str, _Episode],
        symbol: str,
        streams: Mapping[str, StreamStatus],
        signs: Sequence[_Sign],
        now_ns: int,
    ) -> Iterator[Alert]:
        episode, instrument = episodes.get(symbol), f"{self._exchange}:{symbol}"
        if signs:
            if episode is None or not episode.reported:
                known = [self._before.get(name, _Counts()) for name in streams]
                before = _Counts(sum(each.gaps for each in known), sum(e.down_s for e in known))
                episode = episodes[symbol] = _Episode(now_ns, now_ns, before)
            episode.last_ns = now_ns
            worst: Severity = "ERROR" if any(e.severity == "ERROR" for e in signs) else "WARN"
            if not episode.reported & {worst, "ERROR"}:
                episode.reported.add(worst)
                text = "; ".join(sign.text for sign in signs)
                yield frames_missing(instrument, self._host, text, worst, episode.began_ns)
        elif episode is not None and now_ns - episode.last_ns >= self._whole_ns:
            del episodes[symbol]
            gaps = sum(stream.gaps for stream in streams.values()) - episode.before.gaps
            down_s = sum(stream.downtime_s for stream in streams.values()) - episode.before.down_s
            text = (
                f"nothing is missing since {utc_text(episode.last_ns)}; since "
                f"{utc_text(episode.began_ns)} there were {gaps:,} gaps, and {down_s:,.1f} s of "
                "streams without a connection"
            )
            for severity in _SEVERITIES:
                yield frames_missing(
                    *(instrument, self._host, text, severity), episode.began_ns, episode.last_ns
                )

    def _signs(self, name: str, stream: StreamStatus, now_ns: int) -> Iterator[_Sign]:
        """What of a stream says that frames are missing, between the look before and this one."""
        before = self._before.get(name, _Counts())
        if stream.gaps > before.gaps:
            yield _Sign("WARN", f"{name}: {stream.gaps - before.gaps:,} gaps that no one filled")
        if stream.downtime_s > before.down_s:
            down_s = stream.downtime_s - self._down_from_s.setdefault(name, before.down_s)
            is_long = down_s >= self._long_down_s
            if is_long or before.is_heard:  # at the start no connection is there yet
                text = f"{name}: no connection has had it for {down_s:,.1f} s"
                yield _Sign("ERROR" if is_long else "WARN", text)
        else:
            self._down_from_s.pop(name, None)
        if stream.unheard:
            unheard_ns = now_ns - self._unheard_from_ns.setdefault(name, now_ns)
            if stream.unheard == "error" or unheard_ns >= self._silent_ns:
                severity: Severity = "ERROR" if stream.unheard == "error" else "WARN"
                yield _Sign(severity, f"{name}: nothing comes over any of its connections")
        else:
            self._unheard_from_ns.pop(name, None)
        # What our own queue had no room for is recorded.
        if stream.book == BookState.RESYNC and stream.reason != CUT:
            yield _Sign("WARN", f"{name}: its book is lost, {stream.reason}")
