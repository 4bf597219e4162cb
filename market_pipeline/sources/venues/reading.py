"""Reads frames by a venue's declaration: what they are of, and what is in them.

To classify, only the members that are asked for are decoded; the rest is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any

import msgspec

from market_pipeline.errors import DomainError
from market_pipeline.sources.binance_capture.lines import to_ns
from market_pipeline.sources.venues.records import RECORDS, BookLevels, Level, Record
from market_pipeline.sources.venues.venue import Channel, Classified, Form, Kind, Venue

__all__ = ["FrameReader", "time_ns"]

_Steps = tuple[str | int, ...]
_Leaf = str | int | float | bool | None
_UNDECODABLE = Classified(Kind.UNDECODABLE)
_CONTROL = Classified(Kind.CONTROL)
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# Numbers stay as the venue wrote them: a checksum is of their text.
_untyped = msgspec.json.Decoder(float_hook=str)
_NS = 1_000_000_000
_SECONDS = re.compile(r"\d{10}\.\d{1,9}")
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)")
_MOST_DIGITS = 19
_MOST_ID = 2**63 - 1
_MOST_TEXTS = 10_000
_SHOWN_BYTES = 120
_SIDES = ({"bid_price", "bid_size"}, {"ask_price", "ask_size"})
_NOTHING = "nothing"
"""An attribute of each header that is None, for what a form does not have."""


def time_ns(value: object) -> int | None:
    """A venue's time as ns UTC: 13, 16 or 19 digits, seconds with decimals, or ISO 8601.

    None where it is no such time.
    """
    if isinstance(value, int):
        return to_ns(value)
    if not isinstance(value, str):
        return None
    if value.isdecimal() and len(value) <= _MOST_DIGITS:
        return to_ns(int(value))
    if _SECONDS.fullmatch(value):
        return int(value[:10]) * _NS + int(value[11:].ljust(9, "0"))
    match = _ISO.fullmatch(value)
    if match is None:
        return None
    try:
        second = datetime.fromisoformat(f"{match[1]}T{match[2]}+00:00")
    except ValueError:
        return None
    # Python's own times end at the microsecond.
    return int(second.timestamp()) * _NS + int((match[3] or "0").ljust(9, "0"))


class FrameReader:
    """Classifies and decodes the frames of a venue."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self._keys = [(_Header([path]), re.compile(pattern)) for path, pattern in venue.keys]
        self._channels = {channel.key: channel for channel in venue.channels}
        self._of_text: dict[str, tuple[Channel, str] | None] = {}
        self._headers = {channel.kind: _FormHeader(channel.form) for channel in venue.channels}
        self._reply = venue.keepalive.reply.encode()
        self._other = _FormHeader(venue.other)
        self._forms = {channel.kind: channel.form for channel in venue.channels}
        self._snapshot = None
        if venue.snapshot is not None:
            self._forms[Kind.SNAPSHOT] = venue.snapshot.form
            self._snapshot = _FormHeader(venue.snapshot.form)

    def classify(self, frame: bytes) -> Classified:
        """What a frame is; whatever it holds, nothing is raised."""
        try:
            found = self._channel(frame)
            if found is not None:
                channel, symbol = found
                return self._headers[channel.kind].read(channel.kind, frame, symbol)
            if self._snapshot is not None:
                snapshot = self._snapshot.read(Kind.SNAPSHOT, frame)
                if snapshot.last_id is not None:
                    return snapshot
            return self._other.read(Kind.CONTROL, frame)
        except _REFUSED:
            return _CONTROL if frame == self._reply else _UNDECODABLE

    def _channel(self, frame: bytes) -> tuple[Channel, str] | None:
        """The channel of a frame, and the symbol if that is in its name."""
        for header, pattern in self._keys:
            (text,) = header.values(frame)
            if isinstance(text, str):
                if text not in self._of_text:
                    if len(self._of_text) > _MOST_TEXTS:
                        self._of_text.clear()
                    self._of_text[text] = self._named(pattern.search(text))
                return self._of_text[text]
        return None

    def _named(self, match: re.Match[str] | None) -> tuple[Channel, str] | None:
        channel = self._channels.get(match[1]) if match else None
        if channel is None or match is None:
            return None
        return channel, match.groupdict().get("symbol") or ""

    def levels(self, frame: bytes, kind: Kind = Kind.DEPTH) -> BookLevels:
        """The levels of a `DEPTH` frame, or of a `SNAPSHOT`.

        Raises:
            DomainError: It is no such frame.
        """
        book = self._forms[kind].book
        try:
            content = _untyped.decode(frame)
            if book is None:
                raise LookupError("frames of this kind have no levels")
            price, size = book.price, book.size
            if book.updates:
                bids: list[Level] = []
                asks: list[Level] = []
                for each in _at(content, _steps(book.updates)):
                    side = bids if each[book.side] == book.bid else asks
                    side.append((str(each[price]), str(each[size])))
                return BookLevels(bids, asks)
            # A frame that sets levels of one side may lack the other.
            lower, upper = (_at(content, _steps(path)) or () for path in (book.bids, book.asks))
            return BookLevels(
                [(str(each[price]), str(each[size])) for each in lower],
                [(str(each[price]), str(each[size])) for each in upper],
            )
        except (*_REFUSED, LookupError, TypeError) as error:
            raise self._unreadable(kind, frame, error) from error

    def records(self, frame: bytes, kind: Kind) -> list[Record]:
        """The trades, quotes, klines or states of a frame of that kind.

        A quote of one side alone, the other being empty or as it was, is left out.

        Raises:
            DomainError: It is no such frame, or a value is outside its domain.
        """
        form = self._forms[kind]
        try:
            content = _untyped.decode(frame)
            items = _at(content, _steps(form.items)) if form.items else [content]
            if form.item:
                items = [_at(content, _steps(form.item))]
            fields = [(name, _steps(path)) for name, path in form.fields.items()]
            found = []
            for item in items or ():
                values = {}
                for name, steps in fields:
                    value = _at(item, steps)
                    if name in form.values:
                        value = form.values[name].get(value)
                    elif name.endswith("_ns"):
                        value = time_ns(value)
                    if value is not None and value != "":
                        values[name] = value
                if kind is Kind.QUOTES and sum(side.isdisjoint(values) for side in _SIDES) == 1:
                    continue
                found.append(msgspec.convert(values, RECORDS[kind], strict=False))
        except (*_REFUSED, msgspec.ValidationError, LookupError, TypeError) as error:
            raise self._unreadable(kind, frame, error) from error
        return found

    def _unreadable(self, kind: Kind, frame: bytes, error: Exception) -> DomainError:
        return DomainError(
            f"A frame of {self.venue.name} cannot be read",
            expected=f"a whole frame of {kind.value}",
            found=f"{frame[:_SHOWN_BYTES]!r}: {error}",
            next_step="Keep the recording and compare the frame with the venue's documentation.",
        )


@cache
def _steps(path: str) -> _Steps:
    return tuple(int(step) if step.lstrip("-").isdigit() else step for step in path.split("."))


def _at(content: Any, steps: _Steps) -> Any:
    """What a path leads to; None if it ends before."""
    for step in steps:
        if isinstance(step, int):
            if not content or not isinstance(content, list):
                return None
            content = content[step] if content[step:] else None
        else:
            content = content.get(step) if isinstance(content, dict) else None
    return content


class _Header:
    """Decodes the members at some paths and passes over all else."""

    def __init__(self, paths: Sequence[str]) -> None:
        tree: dict[str, Any] = {}
        for path in filter(None, paths):
            node = tree
            for step in path.split("."):
                node = node.setdefault(step, {})
        self._decoder = msgspec.json.Decoder(_type_of(tree))
        self._paths = [tuple(_attributes(path)) if path else None for path in paths]
        self._at_once = self._getter()

    def values(self, frame: bytes) -> Sequence[Any]:
        """What is at each path, None where there is nothing."""
        header = self._decoder.decode(frame)
        if self._at_once is None:
            return self._one_by_one(header)
        try:
            return self._at_once(header)
        except AttributeError:  # something on the way to a member is not there
            return self._one_by_one(header)

    def _one_by_one(self, header: Any) -> list[Any]:
        found: list[Any] = []
        for attributes in self._paths:
            value: Any = None if attributes is None else header
            for attribute in attributes or ():
                if isinstance(attribute, int):
                    value = value[attribute] if value and value[attribute:] else None
                else:
                    value = getattr(value, attribute, None)
            found.append(value)
        return found

    def _getter(self) -> Callable[[Any], tuple[Any, ...]] | None:
        """What gets all in one call, at a third of the time; none where one lies in a list."""
        names = []
        for attributes in self._paths:
            if any(isinstance(each, int) for each in attributes or ()):
                return None
            names.append(".".join(map(str, attributes or [_NOTHING])))
        return attrgetter(*names) if len(names) > 1 else None  # of one it would give no tuple


def _attributes(path: str) -> _Steps:
    return tuple(step if isinstance(step, int) else f"m_{step}" for step in _steps(path))


def _type_of(tree: dict[str, Any]) -> Any:
    """The type that decodes a tree of members: a structure, or a list of one."""
    if tree and all(isinstance(_steps(step)[0], int) for step in tree):
        # The places in a list that are asked for have one type.
        merged: dict[str, Any] = {}
        for inner in tree.values():
            merged.update(inner)
        return list[_type_of(merged) if merged else _Leaf] | None  # type: ignore[misc]
    return (
        msgspec.defstruct(
            "Header",
            [
                (f"m_{step}", _type_of(inner) if inner else _Leaf, None)
                for step, inner in tree.items()
            ],
            namespace={_NOTHING: None},
            rename={f"m_{step}": step for step in tree},
            gc=False,
        )
        | None
    )


class _FormHeader:
    """Reads what a frame of a form says of itself."""

    def __init__(self, form: Form) -> None:
        self._snapshot = form.snapshot
        self._streams: dict[str, str] = {}
        self._header = _Header(
            [
                form.symbol,
                form.first_id,
                form.last_id,
                form.previous_id,
                form.event_time,
                form.checksum,
                form.snapshot[0] if form.snapshot else "",
            ]
        )

    def read(self, kind: Kind, frame: bytes, named: str = "") -> Classified:
        """See `FrameReader.classify`; `named` is the symbol where the form has none."""
        symbol, first, last, previous, time, checksum, snapshot = self._header.values(frame)
        symbol = symbol if isinstance(symbol, str) else named
        is_snapshot = kind is Kind.SNAPSHOT
        if self._snapshot is not None:
            is_snapshot = not self._snapshot[0] or str(snapshot) == self._snapshot[1]
        stream = self._streams.get(symbol)
        if stream is None:
            stream = f"{kind.value}:{symbol}" if kind is not Kind.CONTROL else ""
            if len(self._streams) < _MOST_TEXTS and len(symbol) < _SHOWN_BYTES:
                self._streams[symbol] = stream
        return Classified(
            kind,
            stream,
            symbol,
            _whole(first),
            _whole(last),
            _whole(previous),
            time_ns(time),
            is_snapshot,
            _whole(checksum),
        )


def _whole(value: object) -> int | None:
    """An id, which some venues send as text; what no 64 bits hold is none."""
    if value is None or (type(value) is int and -_MOST_ID <= value <= _MOST_ID):
        return value
    if isinstance(value, str) and value.isdecimal() and len(value) <= _MOST_DIGITS:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _MOST_ID:
        return None
    return value
