"""Websocket captures: frames lost, repeated, moved and damaged, and files that are not whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from market_pipeline_tests.detection.faults.capture_day import CaptureDay, Line
from market_pipeline_tests.detection.faults.day import INVENTED, SECOND
from market_pipeline_tests.detection.faults.registry import CAPTURES, fault

__all__: list[str] = []

SEED = 37
HOUR = 3_600 * SECOND
BURST = 20


def _burst(day: CaptureDay, count: int = BURST) -> list[int]:
    """The places of some depth events in a row."""
    events = day.of_kind("depth")
    begin = int(len(events) * day.place)
    return events[begin : begin + count]


def _without(day: CaptureDay, places: list[int]) -> CaptureDay:
    gone = set(places)
    return day.put([line for at, line in enumerate(day.lines) if at not in gone])


def _moved(day: CaptureDay, at: int, to: int) -> CaptureDay:
    lines = list(day.lines)
    line = lines.pop(at)
    lines.insert(to, line)
    return day.put(lines)


def _pause(day: CaptureDay, share: float = 0.2) -> tuple[int, int]:
    """The first and the last place of a part of the day."""
    return day.depth_at(), day.depth_at(place=day.place + share)


@fault(CAPTURES)
def frame_lost(day: CaptureDay) -> CaptureDay:
    """One depth event is not there."""
    return _without(day, [day.depth_at()])


@fault(CAPTURES)
def frames_lost_in_a_row(day: CaptureDay) -> CaptureDay:
    """Twenty depth events in a row are not there."""
    return _without(day, _burst(day))


@fault(CAPTURES)
def one_percent_of_frames_lost(day: CaptureDay) -> CaptureDay:
    """One line in a hundred is not there, whatever it is."""
    drawn = np.random.default_rng(SEED).random(len(day.lines)) < 0.01
    first = day.of_kind("rest")[0]
    return _without(day, [int(at) for at in np.flatnonzero(drawn) if at > first])


@fault(CAPTURES)
def first_frame_after_the_snapshot_lost(day: CaptureDay) -> CaptureDay:
    """The first depth event behind the first snapshot is not there."""
    rest = day.of_kind("rest")[0]
    return _without(day, [next(at for at in day.of_kind("depth") if at > rest)])


@fault(CAPTURES)
def frame_twice(day: CaptureDay) -> CaptureDay:
    """A depth event stands twice in a row."""
    at = day.depth_at()
    return day.put([*day.lines[: at + 1], day.lines[at], *day.lines[at + 1 :]])


@fault(CAPTURES, cases=(5, 200))
def frame_again_later(day: CaptureDay, by: int) -> CaptureDay:
    """A depth event comes again some events later."""
    at, later = day.depth_at(), day.depth_at(by)
    return day.put([*day.lines[: later + 1], day.lines[at], *day.lines[later + 1 :]])


@fault(CAPTURES)
def frames_again_in_a_block(day: CaptureDay) -> CaptureDay:
    """Twenty depth events come again as a block."""
    burst = _burst(day)
    again = [day.lines[at] for at in burst]
    return day.put([*day.lines[: burst[-1] + 1], *again, *day.lines[burst[-1] + 1 :]])


@fault(CAPTURES)
def frames_swapped(day: CaptureDay) -> CaptureDay:
    """Two neighbouring depth events stand in each other's place."""
    return _moved(day, day.depth_at(), day.depth_at(1))


@fault(CAPTURES, cases=(3, 100))
def frame_late(day: CaptureDay, by: int) -> CaptureDay:
    """A depth event stands some events late."""
    return _moved(day, day.depth_at(), day.depth_at(by))


@fault(CAPTURES)
def frames_in_reverse(day: CaptureDay) -> CaptureDay:
    """Twenty depth events stand in reverse."""
    burst = _burst(day)
    lines = list(day.lines)
    for at, of in zip(burst, reversed(burst), strict=True):
        lines[at] = day.lines[of]
    return day.put(lines)


@fault(CAPTURES)
def capture_reversed(day: CaptureDay) -> CaptureDay:
    """All lines stand in reverse."""
    return day.put(day.lines[::-1])


@fault(CAPTURES)
def frame_cut(day: CaptureDay) -> CaptureDay:
    """A depth event ends in the middle."""
    return day.change(
        day.depth_at(), lambda line: replace(line, text=line.text[: len(line.text) // 2])
    )


@fault(CAPTURES, cases=("bytes", "text", "empty", "no stamp", "number"))
def line_that_is_none(day: CaptureDay, what: str) -> CaptureDay:
    """In the place of a depth event stands something else."""
    texts = {
        "bytes": b"\xff\xfe\x00\x80" * 20,
        "text": b"connection reset by peer",
        "empty": b"",
        "no stamp": day.lines[day.depth_at()].text.partition(b" ")[2],
        "number": b"1723161253937085768 42",
    }
    return day.change(day.depth_at(), lambda line: replace(line, text=texts[what]))


@fault(CAPTURES)
def two_frames_in_one_line(day: CaptureDay) -> CaptureDay:
    """The line feed between two lines is missing."""
    at = day.depth_at()
    glued = replace(day.lines[at], text=day.lines[at].text + day.lines[at + 1].text)
    return day.put([*day.lines[:at], glued, *day.lines[at + 2 :]])


@fault(CAPTURES)
def frame_in_two_lines(day: CaptureDay) -> CaptureDay:
    """A line feed stands in the middle of a depth event."""
    at = day.depth_at()
    line = day.lines[at]
    half = len(line.text) // 2
    parts = (replace(line, text=line.text[:half]), replace(line, text=line.text[half:]))
    return day.put([*day.lines[:at], *parts, *day.lines[at + 1 :]])


@fault(CAPTURES, harmless=True)
def empty_lines(day: CaptureDay) -> CaptureDay:
    """An empty line stands behind every hundredth line."""
    lines: list[Line] = []
    for at, line in enumerate(day.lines):
        lines.append(line)
        if at % 100 == 0:
            lines.append(Line(b"", "other", INVENTED))
    return day.put(lines)


@fault(CAPTURES, harmless=True)
def lines_end_as_on_windows(day: CaptureDay) -> CaptureDay:
    """All lines end with a carriage return and a line feed."""
    return replace(day, joined_by=b"\r\n")


@fault(CAPTURES)
def frame_of_another_symbol(day: CaptureDay) -> CaptureDay:
    """A depth event says another symbol."""
    return day.change(day.depth_at(), lambda line: line.with_frame(s="XRPUSDT"))


@fault(CAPTURES)
def frames_of_another_symbol_between(day: CaptureDay) -> CaptureDay:
    """A recorder of two symbols: each event comes again with another symbol and other prices."""
    lines: list[Line] = []
    for at, line in enumerate(day.lines):
        lines.append(line)
        if line.kind == "depth" and at % 7 == 0:
            other = line.with_frame(s="XRPUSDT", b=[["0.5", "1000"]], a=[["0.6", "1000"]])
            lines.append(replace(other, message=INVENTED))
    return day.put(lines)


@fault(CAPTURES, harmless=True)
def frames_of_the_partial_book(day: CaptureDay) -> CaptureDay:
    """Events of the partial-depth stream, which are snapshots in the form of events, stand among
    the others.
    """
    lines: list[Line] = []
    for at, line in enumerate(day.lines):
        lines.append(line)
        if line.kind == "depth" and at % 50 == 0:
            text = line.text.replace(b"@depth@", b"@depth20@", 1)
            lines.append(Line(text, "other", INVENTED))
    return day.put(lines)


def _level(day: CaptureDay, change: Callable[[list[Any]], list[Any]]) -> CaptureDay:
    """The day with another highest level of the bids of an event."""
    events = day.of_kind("depth")
    begin = int(len(events) * day.place)
    at = next(
        at for at in events[begin:] if any(float(size) > 0 for _, size in day.lines[at].frame["b"])
    )
    levels = day.lines[at].frame["b"]
    sized = [k for k, level in enumerate(levels) if float(level[1]) > 0]
    place = max(sized, key=lambda k: float(levels[k][0]))
    changed = change(list(levels[place]))
    new = [*levels[:place], *([changed] if changed else []), *levels[place + 1 :]]
    return day.change(at, lambda line: line.with_frame(b=new))


@fault(CAPTURES)
def level_of_a_frame_lost(day: CaptureDay) -> CaptureDay:
    """A depth event lacks one level."""
    return _level(day, lambda _: [])


@fault(CAPTURES, cases=("0", "-1", "NaN", "Infinity", "1e400", "", "abc", "null"))
def price_text_of_a_frame(day: CaptureDay, text: str) -> CaptureDay:
    """A price of a depth event is no price."""
    return _level(day, lambda level: [None if text == "null" else text, level[1]])


@fault(CAPTURES, cases=("-1", "NaN", "1e400", ""))
def size_text_of_a_frame(day: CaptureDay, text: str) -> CaptureDay:
    """A size of a depth event is no size."""
    return _level(day, lambda level: [level[0], text])


@fault(CAPTURES, cases=("higher", "off grid", "ten times"))
def price_of_a_frame(day: CaptureDay, how: str) -> CaptureDay:
    """A price of a depth event is another one."""

    def changed(level: list[Any]) -> list[Any]:
        price = float(level[0])
        texts = {
            "higher": f"{price + 1:.2f}",
            "off grid": f"{price:.2f}37",
            "ten times": f"{price * 10:.2f}",
        }
        return [texts[how], level[1]]

    return _level(day, changed)


@fault(CAPTURES, cases=("twice", "off grid", "2^53"))
def size_of_a_frame(day: CaptureDay, how: str) -> CaptureDay:
    """A size of a depth event is another one."""

    def changed(level: list[Any]) -> list[Any]:
        size = float(level[1])
        texts = {
            "twice": f"{size * 2:.5f}",
            "off grid": f"{size:.5f}123",
            "2^53": str(2**53 + 1),
        }
        return [level[0], texts[how]]

    return _level(day, changed)


@fault(CAPTURES, harmless=True)
def numbers_with_exponents(day: CaptureDay) -> CaptureDay:
    """The prices of an event are written with exponents."""
    return _level(day, lambda level: [f"{float(level[0]):.12e}", level[1]])


@fault(CAPTURES)
def sides_of_a_frame_exchanged(day: CaptureDay) -> CaptureDay:
    """A depth event has its bids as asks and its asks as bids."""
    at = day.depth_at()
    frame = day.lines[at].frame
    return day.change(at, lambda line: line.with_frame(b=frame["a"], a=frame["b"]))


@fault(CAPTURES)
def frame_without_levels(day: CaptureDay) -> CaptureDay:
    """A depth event has no levels; its ids are right."""
    return day.change(day.depth_at(), lambda line: line.with_frame(b=[], a=[]))


@fault(CAPTURES, cases=("ten times", "zero", "negative", "one ahead", "text"))
def last_id_of_a_frame(day: CaptureDay, how: str) -> CaptureDay:
    """The last update id of a depth event is not its own."""
    at = day.depth_at()
    u = day.lines[at].frame["u"]
    ids = {"ten times": u * 10, "zero": 0, "negative": -u, "one ahead": u + 1, "text": "u"}
    return day.change(at, lambda line: line.with_frame(u=ids[how]))


@fault(CAPTURES, cases=("ten times", "zero", "one back"))
def first_id_of_a_frame(day: CaptureDay, how: str) -> CaptureDay:
    """What a depth event says it continues is not so."""
    at = day.depth_at()
    name = "U" if day.market == "spot" else "pu"
    first = day.lines[at].frame[name]
    ids = {"ten times": first * 10, "zero": 0, "one back": first - 1}
    return day.change(at, lambda line: line.with_frame(**{name: ids[how]}))


@fault(CAPTURES)
def ids_begin_again(day: CaptureDay) -> CaptureDay:
    """All ids begin again at a small number in the middle; no event is lost."""
    begin = day.depth_at()
    base = day.lines[begin].frame["U"] - 1_000
    lines = list(day.lines)
    for at in day.of_kind("depth"):
        if at >= begin:
            frame = lines[at].frame
            moved = {name: frame[name] - base for name in ("U", "u", "pu") if name in frame}
            lines[at] = lines[at].with_frame(**moved)
    return day.put(lines)


@fault(CAPTURES)
def field_of_a_frame_missing(day: CaptureDay) -> CaptureDay:
    """A depth event has no last update id."""
    line = day.lines[day.depth_at()]
    return day.change(
        day.depth_at(), lambda _: replace(line, text=line.text.replace(b'"u":', b'"v":', 1))
    )


@fault(CAPTURES, cases=("zero", "hours ahead", "us", "negative"))
def event_time_of_a_frame(day: CaptureDay, how: str) -> CaptureDay:
    """The event time of a depth event is not the time."""
    at = day.depth_at()
    time = day.lines[at].frame["E"]
    times = {"zero": 0, "hours ahead": time + 5 * 3_600_000, "us": time * 1_000, "negative": -time}
    return day.change(at, lambda line: line.with_frame(E=times[how]))


@fault(CAPTURES, cases=("zero", "hours ahead", "us"))
def all_event_times(day: CaptureDay, how: str) -> CaptureDay:
    """The event times of all depth events are not the time."""
    lines = list(day.lines)
    for at in day.of_kind("depth"):
        time = lines[at].frame["E"]
        times = {"zero": 0, "hours ahead": time + 5 * 3_600_000, "us": time * 1_000}
        lines[at] = lines[at].with_frame(E=times[how])
    return day.put(lines)


@fault(CAPTURES, cases=("zero", "hour ahead", "hour back", "ms", "20 digits", "text"))
def local_stamp_of_a_frame(day: CaptureDay, how: str) -> CaptureDay:
    """The local stamp of a depth event is not the time."""
    at = day.depth_at()
    stamp = int(day.lines[at].stamp)
    stamps: dict[str, int | bytes] = {
        "zero": 0,
        "hour ahead": stamp + HOUR,
        "hour back": stamp - HOUR,
        "ms": stamp // 1_000_000,
        "20 digits": stamp * 10,
        "text": b"2024-08-08T23:54:13",
    }
    return day.change(at, lambda line: line.with_stamp(stamps[how]))


@fault(CAPTURES, cases=("step", "stuck"))
def local_clock(day: CaptureDay, how: str) -> CaptureDay:
    """From the middle on the local clock is an hour ahead, or stands still."""
    begin = day.depth_at()
    then = int(day.lines[begin].stamp)
    lines = [
        line if at < begin else line.with_stamp(then if how == "stuck" else int(line.stamp) + HOUR)
        for at, line in enumerate(day.lines)
    ]
    return day.put(lines)


@fault(CAPTURES)
def snapshot_lost(day: CaptureDay) -> CaptureDay:
    """There is no snapshot."""
    return _without(day, day.of_kind("rest"))


@fault(CAPTURES, cases=("later id", "earlier id", "id zero", "another symbol"))
def first_rest_snapshot(day: CaptureDay, how: str) -> CaptureDay:
    """The first snapshot does not belong where it stands."""
    at = day.of_kind("rest")[0]
    last = day.lines[at].frame["lastUpdateId"]
    changed: dict[str, dict[str, Any]] = {
        "later id": {"lastUpdateId": last + 100_000},
        "earlier id": {"lastUpdateId": last - 10**9},
        "id zero": {"lastUpdateId": 0},
        "another symbol": {"symbol": "XRPUSDT"},
    }
    return day.change(at, lambda line: line.with_frame(**changed[how]))


@fault(CAPTURES, cases=("sizes", "touch", "crossed", "empty", "top 20"))
def first_rest_snapshot_wrong(day: CaptureDay, how: str) -> CaptureDay:
    """The first snapshot shows another book than there was."""
    at = day.of_kind("rest")[0]
    frame = day.lines[at].frame
    bids, asks = frame["bids"], frame["asks"]
    changed: dict[str, dict[str, Any]] = {
        "sizes": {"bids": [[price, f"{float(size) * 2:.5f}"] for price, size in bids]},
        "touch": {"bids": bids[1:]},
        "crossed": {"bids": [[asks[5][0], "1"], *bids]},
        "empty": {"bids": [], "asks": []},
        "top 20": {"bids": bids[:20], "asks": asks[:20]},
    }
    return day.change(at, lambda line: line.with_frame(**changed[how]))


@fault(CAPTURES)
def old_snapshot_again(day: CaptureDay) -> CaptureDay:
    """The first snapshot comes again in the middle, as if it were new."""
    rest = day.lines[day.of_kind("rest")[0]]
    at = day.depth_at()
    return day.put([*day.lines[:at], rest, *day.lines[at:]])


@fault(CAPTURES)
def old_snapshot_with_a_new_id(day: CaptureDay) -> CaptureDay:
    """The first snapshot comes again in the middle, with the id of the event before it."""
    at = day.depth_at()
    before = day.lines[day.depth_at(-1)]
    rest = day.lines[day.of_kind("rest")[0]].with_frame(lastUpdateId=before.frame["u"])
    return day.put([*day.lines[:at], rest.with_stamp(before.stamp), *day.lines[at:]])


@fault(CAPTURES)
def silence_of_the_capture(day: CaptureDay) -> CaptureDay:
    """No line is there for a fifth of the day."""
    begin, end = _pause(day)
    return day.put([*day.lines[:begin], *day.lines[end:]])


@fault(CAPTURES, harmless=True)
def trades_of_the_capture_lost(day: CaptureDay) -> CaptureDay:
    """No trade is there."""
    return _without(day, [at for at, line in enumerate(day.lines) if b'@trade"' in line.text])


@fault(CAPTURES, cases=("same", "half"))
def capture_twice(day: CaptureDay, how: str) -> CaptureDay:
    """A second file of the day holds the same lines, or those from the middle on, again."""
    lines = day.lines if how == "same" else day.lines[day.depth_at() :]
    return replace(day, more=(*day.more, ("_b", lines)))


@fault(CAPTURES)
def captures_in_wrong_order(day: CaptureDay) -> CaptureDay:
    """The second half of the day is in the file whose name comes first."""
    at = day.depth_at()
    return replace(day.put(day.lines[at:]), more=(("_b", day.lines[:at]),))


@fault(CAPTURES, cases=("end", "middle"))
def archive_cut(day: CaptureDay, where: str) -> CaptureDay:
    """The gzip file is cut, just before its end or in the middle."""
    share = 0.5 if where == "middle" else 1.0
    return replace(
        day, damage=(*day.damage, lambda content: content[: int(len(content) * share) - 8])
    )


@fault(CAPTURES)
def archive_damaged(day: CaptureDay) -> CaptureDay:
    """Bytes in the middle of the gzip file are overwritten."""

    def overwritten(content: bytes) -> bytes:
        middle = len(content) // 2
        return content[:middle] + b"\x00" * 64 + content[middle + 64 :]

    return replace(day, damage=(*day.damage, overwritten))


@fault(CAPTURES, cases=("twice", "empty", "no archive"))
def archive_of_another_kind(day: CaptureDay, how: str) -> CaptureDay:
    """The gzip file holds its content twice, or is none."""
    changes: dict[str, Callable[[bytes], bytes]] = {
        "twice": lambda content: content + content,
        "empty": lambda _: b"",
        "no archive": lambda _: b"1723161253937085768 {}\n",
    }
    return replace(day, damage=(*day.damage, changes[how]))
