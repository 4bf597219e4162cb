from __future__ import annotations

import tempfile
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.books.rebuild import Rebuild, RebuildOptions
from market_pipeline.books.scale import Scale
from market_pipeline.books.state import DepthRows, Resync
from market_pipeline.sources.binance_capture import Findings, read_deltas, read_snapshots
from market_pipeline.sources.binance_capture.linking import (
    Link,
    Linker,
    SnapshotPlacer,
    capture_symbol,
)
from market_pipeline_tests.naive.capture import Event, Rest, naive_links
from market_pipeline_tests.sources.capture_files import SYMBOL, capture, depth, line, rest, told

PACKAGE = "market_pipeline.sources.binance_capture"
MARKETS = ("spot", "usdm", "coinm")
ONE = Scale.of(Decimal(1))
FILE = Path("c.gz")
NOT_KNOWN = BookFlag.NOT_SEEDED | BookFlag.GAP


def outcome(market, stream) -> tuple[list[Link], list[tuple[str, str, int]]]:
    """Links (start, u), ("empty", start, u) and ("rest", L) and tells what became of each."""
    findings = Findings()
    events = [each for each in stream if each[0] != "rest"]
    placer = SnapshotPlacer(market, events[0][-2], findings)
    placed = [
        placer.place(FILE, number, each[1])
        for number, each in enumerate(stream, 1)
        if each[0] == "rest"
    ]
    linker = Linker(market, lambda: [each for each in placed if each is not None], findings)
    links = [
        linker.link(FILE, number, each[-2], each[-1], has_levels=each[0] != "empty")
        for number, each in enumerate(stream, 1)
        if each[0] != "rest"
    ]
    return links, told(findings)


YES, GAP, RECOVERED, NO = Link.APPLY, Link.APPLY_AFTER_GAP, Link.APPLY_RECOVERED, Link.LEAVE_OUT


class TestRules:
    @pytest.mark.parametrize("market", MARKETS)
    @pytest.mark.parametrize(
        ("stream", "links", "findings"),
        [
            # Nothing leads to the first event; that is where the stream begins, and no finding.
            ([(10, 20), (20, 30)], [GAP, YES], []),
            ([("rest", 15), (10, 20), (20, 30)], [YES, YES], []),
            ([("rest", 10), (10, 20)], [YES], []),
            # A snapshot is late as a rule: it is placed by its id, not by its line.
            ([(10, 20), (20, 30), ("rest", 25), (30, 40)], [GAP, YES, YES], []),
            ([("rest", 9), (10, 20)], [GAP], [("snapshot_out_of_date", 1)]),
            ([("rest", 15), (10, 20), (30, 40), (40, 50)], [YES, GAP, YES], [("gap", 3)]),
            ([("rest", 15), (10, 20), (10, 20), (20, 30)], [YES, NO, YES], [("duplicate", 3)]),
            (
                [("rest", 15), (10, 20), (30, 40), (20, 30), (40, 50)],
                [YES, GAP, NO, YES],
                [("gap", 3), ("out_of_order", 4)],
            ),
            # An event that overlaps the one before does not continue it either.
            ([("rest", 15), (10, 20), (15, 30)], [YES, GAP], [("gap", 3)]),
            # A snapshot inside the gap recovers it, whether the book was right until there or not.
            ([("rest", 15), (10, 20), ("rest", 35), (30, 40)], [YES, RECOVERED], [("gap", 4)]),
            (
                [("rest", 15), (10, 20), (30, 40), ("rest", 65), (60, 70)],
                [YES, GAP, RECOVERED],
                [("gap", 3), ("gap", 5)],
            ),
            # On its edges too: right before the first update of the event, and before its last.
            ([("rest", 15), (10, 20), (30, 40), ("rest", 30)], [YES, RECOVERED], [("gap", 3)]),
            ([("rest", 15), (10, 20), (30, 40), ("rest", 39)], [YES, RECOVERED], [("gap", 3)]),
            ([("rest", 15), (10, 20), (30, 40), ("rest", 40)], [YES, GAP], [("gap", 3)]),
            ([(10, 20), (30, 40), ("rest", 35)], [GAP, RECOVERED], [("gap", 2)]),
            # But not one that is followed by nothing that continues it.
            (
                [("rest", 15), (10, 20), (30, 40), ("rest", 55), (60, 70)],
                [YES, GAP, GAP],
                [("gap", 3), ("gap", 5), ("snapshot_out_of_date", 4)],
            ),
            # The first of two is taken over, and the event does not continue that one.
            (
                [(10, 20), (30, 40), ("rest", 55), ("rest", 65), (60, 70)],
                [GAP, GAP, GAP],
                [("gap", 2), ("gap", 5), ("snapshot_out_of_date", 3)],
            ),
            (
                [("rest", 15), (10, 20), ("rest", 25), ("rest", 35), (30, 40)],
                [YES, GAP],
                [("gap", 5), ("snapshot_out_of_date", 3)],
            ),
            # A comparison of the last event before the gap is the first of two as well.
            (
                [("rest", 15), (10, 20), ("rest", 20), ("rest", 35), (30, 40)],
                [YES, GAP],
                [("gap", 5)],
            ),
            (
                [("rest", 15), (10, 20), ("rest", 32), ("rest", 35), (30, 40)],
                [YES, RECOVERED],
                [("gap", 5)],
            ),
            (
                [("rest", 15), (10, 20), ("rest", 14), (20, 30)],
                [YES, YES],
                [("snapshot_out_of_date", 3)],
            ),
        ],
    )
    def test_in_all_markets(self, market, stream, links, findings):
        """What is applied, what is a gap, and what is told, where all markets agree."""
        found, kinds = outcome(market, stream)
        assert links == found
        assert sorted(findings) == sorted((kind, number) for kind, _, number in kinds)

    @pytest.mark.parametrize("market", MARKETS)
    @pytest.mark.parametrize(
        ("stream", "links", "findings"),
        [
            ([("rest", 15), (10, 20), ("empty", 20, 30), (30, 40)], [YES, NO, YES], []),
            # Whatever is lost before an event without levels is lost before the next one with.
            ([("rest", 15), (10, 20), ("empty", 25, 30), (30, 40)], [YES, NO, GAP], [("gap", 3)]),
            ([("rest", 15), (10, 20), ("empty", 20, 30), (35, 40)], [YES, NO, GAP], [("gap", 4)]),
            ([("rest", 15), ("empty", 10, 20), ("empty", 20, 30), (30, 40)], [NO, NO, YES], []),
            ([("rest", 35), ("empty", 10, 20), ("empty", 20, 30), (30, 40)], [NO, NO, YES], []),
            # What a snapshot recovers, too.
            (
                [("rest", 15), (10, 20), ("empty", 25, 30), ("rest", 27), (30, 40)],
                [YES, NO, RECOVERED],
                [("gap", 3)],
            ),
            ([("rest", 27), ("empty", 10, 20), (25, 30)], [NO, RECOVERED], [("gap", 3)]),
            ([("rest", 15), (10, 20), ("empty", 20, 30), (20, 40)], [YES, NO, GAP], [("gap", 4)]),
            (
                [("rest", 15), (10, 20), ("empty", 20, 30), ("empty", 20, 30), (30, 40)],
                [YES, NO, NO, YES],
                [("duplicate", 4)],
            ),
        ],
    )
    def test_an_event_without_levels_links(self, market, stream, links, findings):
        """It is never applied, but its ids are part of the chain."""
        found, kinds = outcome(market, stream)
        assert links == found
        assert sorted(findings) == sorted((kind, number) for kind, _, number in kinds)

    def test_what_is_expected_and_found_is_in_the_venue_s_words(self):
        """Spot names U, one more than the last u; futures name pu."""
        for market, expected, found in (("spot", "U=21", "U=31"), ("usdm", "pu=20", "pu=30")):
            findings = Findings()
            linker = Linker(market, list, findings)
            linker.link(FILE, 1, 10, 20, has_levels=True)
            linker.link(FILE, 2, 30, 40, has_levels=True)
            (gap,) = findings.located
            assert (expected, found) == (gap.expected, gap.found)

    @pytest.mark.parametrize(("market", "places"), [("spot", [20, 30]), ("usdm", [19, 30])])
    def test_places_of_snapshots(self, market, places):
        """On futures the first is met before the event with its own id, later ones after it."""
        placer = SnapshotPlacer(market, 10, Findings())
        placed = [placer.place(FILE, number, at) for number, at in ((1, 9), (2, 20), (3, 30))]
        assert [None, *places] == [each and each.sequence_number for each in placed]

    @pytest.mark.parametrize(
        ("market", "ours", "theirs"),
        [
            ("spot", "BTC-USDT", "BTCUSDT"),
            ("usdm", "BTC-USDT-PERP", "BTCUSDT"),
            ("coinm", "BTC-USD-PERP", "BTCUSD_PERP"),
        ],
    )
    def test_symbols(self, market, ours, theirs):
        """Our symbols in the venue's spelling."""
        assert theirs == capture_symbol(market, ours)


# --- random streams ---------------------------------------------------------------------------

BIDS, ASKS = range(1, 19), range(31, 49)


@dataclass(frozen=True)
class World:
    """A market's updates: the true book at every id, and the events and snapshots sent of it."""

    books: dict[int, tuple[dict[int, int], dict[int, int]]]
    stream: list[Event | Rest]


@st.composite
def worlds(draw, market: str) -> World:
    """A stream with events dropped, sent twice and out of place, and snapshots anywhere.

    The first level of each side never changes, so every snapshot reaches over the whole book.
    """
    bids, asks = {min(BIDS): 1}, {max(ASKS): 1}
    update_id = draw(st.integers(100, 105))
    books = {update_id: (dict(bids), dict(asks))}
    events: list[Event] = []
    changed = st.tuples(st.booleans(), st.integers(0, 16), st.sampled_from([0, 0, 1, 2, 3]))
    for _ in range(draw(st.integers(1, 14))):
        start = update_id
        changes: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for is_ask, at, size in draw(st.lists(changed, max_size=4)):
            price = ASKS[at] if is_ask else BIDS[at + 1]
            (bids, asks)[is_ask][price] = changes[is_ask][price] = size
            update_id += draw(st.integers(1, 2))
            books |= {i: (dict(bids), dict(asks)) for i in range(max(books) + 1, update_id)}
            books[update_id] = (dict(bids), dict(asks))
        if update_id == start:
            update_id += 1
            books[update_id] = (dict(bids), dict(asks))
        levels = [[(Decimal(p), Decimal(s)) for p, s in side.items()] for side in changes]
        before = None if market == "spot" else start
        events.append(Event(0, start + 1, update_id, before, *levels))
    stream: list[Event | Rest] = []
    ids = draw(st.lists(st.sampled_from(sorted(books)), max_size=2))
    for event in events:
        times = draw(st.sampled_from([0, 1, 1, 1, 1, 1, 2]))
        stream += [event] * times
        if not times:
            ids += draw(st.lists(st.integers(event.first, event.last), max_size=1))
    for _ in range(draw(st.integers(0, 2))):
        if stream:
            moved = stream.pop(draw(st.integers(0, len(stream) - 1)))
            stream.insert(draw(st.integers(0, len(stream))), moved)
    # Most books begin right, many snapshots lie inside a gap, and most come in their order.
    ids += [min(books)] if draw(st.integers(0, 3)) else []
    places = draw(st.lists(st.integers(0, len(stream)), min_size=len(ids), max_size=len(ids)))
    if draw(st.integers(0, 3)):
        ids, places = sorted(ids), sorted(places)
    # The last first, so that the places of the others stay.
    for place, at in sorted(zip(places, ids, strict=True), reverse=True):
        sides = [[(Decimal(p), Decimal(s)) for p, s in side.items() if s] for side in books[at]]
        snapshot = Rest(0, at, sorted(sides[0], reverse=True), sorted(sides[1]))
        stream.insert(place, snapshot)
    return World(books, stream)


def written(market: str, stream: list[Event | Rest], cuts: list[int], folder: Path) -> list[Path]:
    """The stream as capture files, cut after these lines."""
    texts = []
    for at, each in enumerate(stream):
        sides = [[(str(p), str(s)) for p, s in side] for side in (each.bids, each.asks)]
        if isinstance(each, Rest):
            texts.append(line(rest(each.last_update_id, *sides), at))
        else:
            texts.append(line(depth(market, (each.first - 1, each.last), *sides), at))
    edges = [0, *sorted(cuts), len(texts)]
    parts = [texts[a:b] for a, b in pairwise(edges)]
    return [capture(folder / f"{number}.gz", part) for number, part in enumerate(parts)]


def rebuilt(
    deltas, snapshots, resync: Resync
) -> tuple[list[tuple[int, int, dict[int, int], dict[int, int]]], int]:
    """(sequence number, flags, bids, asks) after every message, and how many gaps were counted."""
    rows = []
    options = RebuildOptions(depth_interval_ms=0, keyframe_seconds=0, resync=resync, ids_prove=True)
    rebuild = Rebuild(ONE, ONE, options)
    for block in rebuild.blocks(deltas, snapshots):
        if isinstance(block, DepthRows):
            for row in zip(*(column.tolist() for column in block[:8]), strict=True):
                _, _, sequence, bid, bid_size, ask, ask_size, flags = row
                sides = [
                    {p: s for p, s in zip(*side, strict=True) if s}
                    for side in ((bid, bid_size), (ask, ask_size))
                ]
                rows.append((sequence, flags, *sides))
    return rows, rebuild.figures["gaps"]


class TestRandomStreams:
    @pytest.mark.parametrize("market", MARKETS)
    @settings(max_examples=40)
    @given(data=st.data(), resync=st.sampled_from(Resync))
    def test_equal_to_the_twin_and_never_wrong_unflagged(self, market, data, resync):
        """What is applied, left out and told is the twin's, and an unflagged book is the true one.

        Whatever is lost, doubled or out of place, wherever snapshots lie and files are cut. No
        message is flagged without need, unless snapshots recover nothing by policy.
        """
        world = data.draw(worlds(market))
        if not any(isinstance(each, Event) for each in world.stream):
            return
        cuts = data.draw(st.lists(st.integers(0, len(world.stream)), max_size=3))
        findings = Findings()
        with tempfile.TemporaryDirectory() as folder:
            files = written(market, world.stream, cuts, Path(folder))
            deltas = list(read_deltas(files, market, SYMBOL[market], findings))
            snapshots = list(read_snapshots(files, market, SYMBOL[market], Findings()))
        edges = [0, *sorted(cuts)]
        places = {
            kind: sorted(
                edges[int(each.file.stem)] + each.line - 1
                for each in findings.located
                if each.kind in kind.split()
            )
            for kind in ("gap", "duplicate out_of_order", "snapshot_out_of_date")
        }
        twin = naive_links(world.stream)
        assert [*places.values()] == [twin.gaps, twin.left_out, sorted(twin.snapshots_out_of_date)]

        sequence = np.concatenate([each.sequence_number for each in deltas] or [[]])
        applied = [world.stream[at].last for at in twin.applied]
        assert applied == sequence[np.diff(sequence, prepend=-1) != 0].tolist()
        for name, expected in (("gap_rows", twin.after_gap), ("recovered_rows", twin.recovered)):
            listed = [each.sequence_number[row] for each in deltas for row in getattr(each, name)]
            assert [world.stream[at].last for at in expected] == listed

        rows, gaps = rebuilt(deltas, snapshots, resync)
        not_known = {at for at, flags, _, _ in rows if flags & NOT_KNOWN}
        needed = {world.stream[at].last for at in twin.not_known}
        assert needed <= not_known if resync is Resync.NEVER else needed == not_known
        for at, flags, bids, asks in rows:
            if not flags & NOT_KNOWN:
                true = [{p: s for p, s in side.items() if s} for side in world.books[at]]
                # A snapshot that lies behind the stream puts rows in doubt that are right.
                against = flags & INVALIDATING & ~BookFlag.SNAPSHOT_MISMATCH
                assert (true, 0) == ([bids, asks], against)

        # Every gap told is counted at the next event with levels, once if they share that one; and
        # so is the beginning of a stream that no snapshot leads to.
        counted = {min((at for at in twin.applied if at >= gap), default=None) for gap in twin.gaps}
        counted |= {at for at in twin.applied[:1] if at in twin.after_gap}
        assert gaps == len(counted - {None}) == len(twin.after_gap) + len(twin.recovered)

    @settings(max_examples=15)
    @given(data=st.data(), market=st.sampled_from(MARKETS), rows=st.integers(1, 12))
    def test_where_batches_are_cut_changes_nothing(self, data, market, rows):
        """Batches of a few rows give the rows, the gaps and the findings of one batch."""
        world = data.draw(worlds(market))
        found = []
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            files = written(market, world.stream, [], Path(folder))
            for size in (1 << 18, rows):
                for module in ("deltas", "snapshots"):
                    patch.setattr(f"{PACKAGE}.{module}.BATCH_ROWS", size)
                findings = Findings()
                batches = list(read_deltas(files, market, SYMBOL[market], findings))
                gaps = [
                    [batch.first_row + row for batch in batches for row in rows_of(batch)]
                    for rows_of in (attrgetter("gap_rows"), attrgetter("recovered_rows"))
                ]
                names = ("ts_receipt_ns", "sequence_number", "is_bid", "price", "size")
                columns = [
                    [value for batch in batches for value in getattr(batch, name).tolist()]
                    for name in names
                ]
                snapshots = read_snapshots(files, market, SYMBOL[market], Findings())
                met = [
                    (sequence, prices[sizes > 0].tolist())
                    for batch in snapshots
                    for sequence, prices, sizes in zip(
                        batch.sequence_number.tolist(), batch.bid_price, batch.bid_size, strict=True
                    )
                ]
                found.append((gaps, columns, told(findings), met))
        assert found[0] == found[1]
