"""Faults planted in copies of the real captures are found where they are, and end when they end.

Each copy is the beginning of a capture with a fault at `BROKEN` of its depth events; the book
after `RECOVERED`, made by the plain twin, is put among the lines a little later, as an answer of
the venue would be. Every message is compared with the rebuild of the copy without the fault.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.books.scale import Scale
from market_pipeline.books.state import Repair, Resync
from market_pipeline.sources.binance_capture import (
    Findings,
    Market,
    read_deltas,
    read_snapshots,
    read_trades,
)
from market_pipeline_tests.naive.capture import Event, VenueBook, naive_depth, venue_procedure
from market_pipeline_tests.sources.capture_files import capture, told
from market_pipeline_tests.sources.capture_sample import (
    SETS,
    CaptureSet,
    Rebuilt,
    rebuilt,
    steps_of,
)

LINES = {"usdm": 1_200, "coinm": 600, "spot": 3_500}
BROKEN, RECOVERED, ANSWERED = 120, 180, 184
CASES = tuple(each for each in SETS if each.name != "usdm_BTCUSDT_20240808")

pytestmark = pytest.mark.parametrize("of", CASES, ids=lambda each: each.market)


@dataclass(frozen=True)
class Copy:
    """The beginning of a capture: its lines, the place of each depth event, and its rebuild.

    `answer` is the twin's snapshot after `RECOVERED`, `early_answer` that after `BROKEN + 1`.
    """

    market: Market
    symbol: str
    lines: list[bytes]
    depth: list[int]
    events: list[Event]
    answer: bytes
    early_answer: bytes
    steps: list[Scale]
    clean: Rebuilt

    @property
    def rest(self) -> int:
        """The place of the capture's own snapshot."""
        return next(at for at, line in enumerate(self.lines) if b"lastUpdateId" in line)


def answer_of(event: Event, book: VenueBook, stamp: bytes) -> bytes:
    """The venue's answer for the whole book after an event."""
    bids, asks = ([[str(p), str(s)] for p, s in side] for side in book.sides())
    frame = {"lastUpdateId": event.last, "bids": bids, "asks": asks}
    return stamp + b" " + json.dumps(frame).encode()


@cache
def copy(of: CaptureSet, root: Path, folder: Path) -> Copy:
    with gzip.open(of.files(root)[0]) as file:
        lines = [next(file).rstrip(b"\n") for _ in range(LINES[of.market])]
    path = capture(folder / f"{of.market}.gz", lines)
    events, (rest,) = naive_depth([path])
    answers = {}
    for event, book in venue_procedure(events, rest):
        at = events.index(event)
        if at in (BROKEN + 1, RECOVERED):
            stamp = lines[events[ANSWERED if at == RECOVERED else at].line - 1].split()[0]
            answers[at] = answer_of(event, book, stamp)
        if at == RECOVERED:
            break
    deltas, snapshots = (
        list(reader([path], of.market, of.symbol, Findings()))
        for reader in (read_deltas, read_snapshots)
    )
    steps = steps_of(deltas, snapshots)
    return Copy(
        of.market,
        of.symbol,
        lines,
        [event.line - 1 for event in events],
        events,
        answers[RECOVERED],
        answers[BROKEN + 1],
        steps,
        rebuilt(deltas, snapshots, steps),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("captures")


@pytest.fixture
def one(of: CaptureSet, sample_data: Path, folder: Path) -> Copy:
    return copy(of, sample_data, folder)


def with_answer(one: Copy, lines: list[bytes], shift: int = 0) -> list[bytes]:
    """The lines with the twin's snapshot after the event that precedes it in time."""
    after = one.depth[ANSWERED] + 1 + shift
    return [*lines[:after], one.answer, *lines[after:]]


def run(
    one: Copy, files: list[Path], resync: Resync = Resync.WHEN_INVALID
) -> tuple[Rebuilt, list[tuple[str, str, int]]]:
    findings = Findings()
    deltas = read_deltas(files, one.market, one.symbol, findings)
    snapshots = read_snapshots(files, one.market, one.symbol, Findings())
    return rebuilt(deltas, snapshots, one.steps, resync=resync), told(findings)


def assert_wrong_only_between(
    one: Copy, found: Rebuilt, first: int | None, missing: set[int], flag: BookFlag
) -> None:
    """Messages from event `first` to `RECOVERED` are flagged; all others are as without the fault.

    `missing` are the events that were not applied.
    """
    expected = [event.last for at, event in enumerate(one.events) if at not in missing]
    assert expected == found.sequence_number.tolist()
    at_clean = np.searchsorted(one.clean.sequence_number, found.sequence_number)
    clean_flags = one.clean.flags[at_clean]
    if first is None:
        wrong = np.zeros(len(expected), np.bool_)
    else:
        span = (one.events[first].last, one.events[RECOVERED].last)
        wrong = (found.sequence_number >= span[0]) & (found.sequence_number <= span[1])
    assert (found.flags[wrong] & flag != 0).all()
    assert (found.flags[~wrong] & INVALIDATING == clean_flags[~wrong] & INVALIDATING).all()
    assert (found.top[~wrong] == one.clean.top[at_clean[~wrong]]).all()
    valid = found.flags & INVALIDATING == 0
    assert valid[-1] and (found.top[valid] == one.clean.top[at_clean[valid]]).all()


def assert_same_closing_book(one: Copy, found: Rebuilt) -> None:
    ours, clean = found.closing, one.clean.closing
    for name in ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots"):
        assert getattr(ours, name).tolist() == getattr(clean, name).tolist()


def test_no_fault(one: Copy, tmp_path: Path):
    """The twin's snapshot in an unharmed copy changes no message and is no finding."""
    path = capture(tmp_path / "c.gz", with_answer(one, one.lines))
    found, findings = run(one, [path])
    assert [] == findings
    assert [] == found.repairs
    assert_wrong_only_between(one, found, None, set(), BookFlag.GAP)
    assert_same_closing_book(one, found)


def test_a_dropped_message(one: Copy, tmp_path: Path):
    """The gap is at the line of the next event, and lasts to the next snapshot."""
    lines = with_answer(one, one.lines)
    del lines[one.depth[BROKEN]]
    found, findings = run(one, [capture(tmp_path / "c.gz", lines)])
    assert [("gap", "c.gz", one.depth[BROKEN + 1])] == findings
    assert_wrong_only_between(one, found, BROKEN + 1, {BROKEN}, BookFlag.GAP)
    assert_same_closing_book(one, found)
    assert ([RECOVERED], 1) == (
        [message for _, message in found.repairs],
        found.gaps - one.clean.gaps,
    )


@pytest.mark.parametrize("later", [0, 3])
@pytest.mark.parametrize("in_new_file", [False, True])
def test_a_reconnect(one: Copy, tmp_path: Path, later: int, in_new_file: bool):
    """Messages are lost, but a snapshot is taken before the stream goes on: no message is flagged.

    The snapshot shows as a resync of the first message after it, and every book from there on is
    right, also where its answer comes some events later.
    """
    place = one.depth[BROKEN + 2 + later]
    lines = [*one.lines[:place], one.early_answer, *one.lines[place:]]
    del lines[one.depth[BROKEN + 1]], lines[one.depth[BROKEN]]
    begins = lines.index(one.lines[one.depth[BROKEN + 2]])
    parts = [lines[:begins], lines[begins:]] if in_new_file else [lines]
    files = [capture(tmp_path / f"{number}.gz", part) for number, part in enumerate(parts)]
    found, findings = run(one, files)
    assert [("gap", "1.gz", 1) if in_new_file else ("gap", "0.gz", begins + 1)] == findings
    assert_wrong_only_between(one, found, None, {BROKEN, BROKEN + 1}, BookFlag.GAP)
    assert_same_closing_book(one, found)
    assert ([(Repair.RESYNC, BROKEN)], 1) == (found.repairs, found.gaps - one.clean.gaps)


def test_a_reconnect_where_nothing_recovers(one: Copy, tmp_path: Path):
    """With the policy to repair nothing the same book is flagged from the gap to the end."""
    lines = list(one.lines)
    lines[one.depth[BROKEN + 1]] = one.early_answer
    del lines[one.depth[BROKEN]]
    found, _ = run(one, [capture(tmp_path / "c.gz", lines)], Resync.NEVER)
    assert [] == found.repairs
    assert (found.flags[BROKEN:] & BookFlag.GAP != 0).all()
    at_clean = np.searchsorted(one.clean.sequence_number, found.sequence_number[:BROKEN])
    assert (found.top[:BROKEN] == one.clean.top[at_clean]).all()
    assert (found.flags[:BROKEN] == one.clean.flags[at_clean]).all()


@pytest.mark.parametrize(("later", "kind"), [(0, "duplicate"), (3, "out_of_order")])
def test_a_message_twice(one: Copy, tmp_path: Path, later: int, kind: str):
    """At once or some events later, the second is left out and no message is flagged."""
    lines = list(one.lines)
    place = one.depth[BROKEN + later] + 1
    lines.insert(place, lines[one.depth[BROKEN]])
    found, findings = run(one, [capture(tmp_path / "c.gz", lines)])
    assert [(kind, "c.gz", place + 1)] == findings
    assert_wrong_only_between(one, found, None, set(), BookFlag.GAP)
    assert_same_closing_book(one, found)


def test_two_messages_swapped(one: Copy, tmp_path: Path):
    """The later one is a gap at the earlier's line, and the earlier is left out where it stands."""
    lines = with_answer(one, one.lines)
    a, b = one.depth[BROKEN], one.depth[BROKEN + 1]
    lines[a], lines[b] = lines[b], lines[a]
    found, findings = run(one, [capture(tmp_path / "c.gz", lines)])
    assert [("gap", "c.gz", a + 1), ("out_of_order", "c.gz", b + 1)] == findings
    assert_wrong_only_between(one, found, BROKEN + 1, {BROKEN}, BookFlag.GAP)
    assert_same_closing_book(one, found)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_a_truncated_line(one: Copy, tmp_path: Path, share: float):
    """The line is told and left out; the next event is the gap."""
    lines = with_answer(one, one.lines)
    at = one.depth[BROKEN]
    lines[at] = lines[at][: max(10, int(len(lines[at]) * share))]
    path = capture(tmp_path / "c.gz", lines)
    found, findings = run(one, [path])
    gap = ("gap", "c.gz", one.depth[BROKEN + 1] + 1)
    assert [("truncated_line", "c.gz", at + 1), gap] == findings
    assert_wrong_only_between(one, found, BROKEN + 1, {BROKEN}, BookFlag.GAP)
    assert_same_closing_book(one, found)
    of_trades = Findings()
    assert [] != list(read_trades([path], one.symbol, of_trades))
    assert [("truncated_line", "c.gz", at + 1)] == told(of_trades)


def test_a_truncated_file(one: Copy, tmp_path: Path):
    """What is before the cut is used; the next file begins with the gap."""
    half = one.depth[BROKEN] + 1
    first = capture(tmp_path / "1.gz", one.lines[:half])
    first.write_bytes(first.read_bytes()[:-3_000])
    second = capture(tmp_path / "2.gz", with_answer(one, one.lines)[half:])
    found, findings = run(one, [first, second])
    cut = findings[0][2]
    missing = {at for at, place in enumerate(one.depth[: BROKEN + 1]) if place + 1 >= cut}
    begins = one.depth[BROKEN + 1] - half + 1
    assert [("truncated_gzip", "1.gz", cut), ("gap", "2.gz", begins)] == findings
    assert 0 < len(missing) < BROKEN
    assert_wrong_only_between(one, found, BROKEN + 1, missing, BookFlag.GAP)
    assert_same_closing_book(one, found)


def test_the_seed_out_of_date(one: Copy, tmp_path: Path):
    """A snapshot older than the stream seeds nothing; the next one does.

    On futures it is met before the event with its own id, which is then already right.
    """
    lines = with_answer(one, one.lines)
    stamp, text = lines[one.rest].split(b" ", 1)
    frame = json.loads(text)
    frame["lastUpdateId"] = one.events[0].first - 100
    lines[one.rest] = stamp + b" " + json.dumps(frame).encode()
    found, findings = run(one, [capture(tmp_path / "c.gz", lines)])
    assert [("snapshot_out_of_date", "c.gz", one.rest + 1)] == findings
    valid = found.flags & INVALIDATING == 0
    first_valid = one.events[RECOVERED + (one.market == "spot")].last
    assert (valid == (found.sequence_number >= first_valid)).all()
    assert (found.top[valid] == one.clean.top[valid]).all()
    assert (found.flags[~valid] & BookFlag.NOT_SEEDED != 0).all()


def test_a_snapshot_that_nothing_continues(one: Copy, tmp_path: Path):
    """One taken among lost messages does not end the gap; the next one does."""
    lines = with_answer(one, one.lines)
    lines[one.depth[BROKEN + 2]] = one.early_answer
    del lines[one.depth[BROKEN + 1]], lines[one.depth[BROKEN]]
    found, findings = run(one, [capture(tmp_path / "c.gz", lines)])
    stale, gap = one.depth[BROKEN + 2] - 1, one.depth[BROKEN + 3] - 1
    assert sorted(findings) == [
        ("gap", "c.gz", gap),
        ("snapshot_out_of_date", "c.gz", stale),
    ]
    missing = {BROKEN, BROKEN + 1, BROKEN + 2}
    assert_wrong_only_between(one, found, BROKEN + 3, missing, BookFlag.GAP)
    assert_same_closing_book(one, found)
