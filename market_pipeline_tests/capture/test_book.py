"""The live book against a plain one, through loss, repetition, disorder and late snapshots."""

from __future__ import annotations

import gc
import json
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.scale import Scale
from market_pipeline.capture import _kept
from market_pipeline.capture.book import LiveBook
from market_pipeline.capture.stream_state import BookState, Touch
from market_pipeline.sources.binance_capture.lines import Findings, read_lines
from market_pipeline.sources.venues import VENUES
from market_pipeline.sources.venues.reading import FrameReader
from market_pipeline.sources.venues.records import Quote
from market_pipeline.sources.venues.venue import Kind
from market_pipeline_tests.sources.capture_sample import SETS

TICK, LOT = Scale.of(Decimal("0.5")), Scale.of(Decimal("0.01"))
STEPS = {
    "usdm_BTCUSDT_20240808": ("0.1", "0.001"),
    "usdm_ETHUSDT_20240718_19": ("0.01", "0.001"),
    "cm_BTCUSD_PERP_20240808_09": ("0.1", "1"),
    "spot_BTCUSDT_20240808_09": ("0.01", "0.00001"),
}

Book = tuple[dict[int, int], dict[int, int]]


@dataclass(frozen=True)
class Sent:
    """A message of the simulated venue, and the book after it, in ticks and lots."""

    last: int
    frame: bytes
    book: Book

    def snapshot(self) -> bytes:
        bids, asks = (
            [[str(price * 0.5), f"{size / 100:.2f}"] for price, size in sorted(side.items())]
            for side in self.book
        )
        answer = {"lastUpdateId": self.last, "bids": bids[::-1], "asks": asks}
        return json.dumps(answer).encode()


def sent_messages(venue: str, changes: list[list[tuple[bool, int, int]]]) -> list[Sent]:
    """What a venue sends of these changes (is bid, ticks, lots), ids as its rule has them."""
    sent, last = [], 100
    book: Book = {}, {}
    for levels in changes:
        first = last + (1 if venue == "binance_spot" else 4)
        data = {"s": "X", "U": first, "u": first + len(levels), "pu": last, "b": [], "a": []}
        for is_bid, price, size in levels:
            ticks = price if is_bid else price + 100
            data["b" if is_bid else "a"].append([str(ticks * 0.5), f"{size / 100:.2f}"])
            side = book[0 if is_bid else 1]
            side.pop(ticks, None)
            if size:
                side[ticks] = size
        last = data["u"]
        frame = json.dumps({"stream": "x@depth@100ms", "data": data}).encode()
        sent.append(Sent(last, frame, (dict(book[0]), dict(book[1]))))
    return sent


CHANGES = st.lists(
    st.lists(
        st.tuples(st.booleans(), st.integers(1, 90), st.integers(0, 5)), min_size=1, max_size=4
    ),
    min_size=2,
    max_size=25,
)


def levels_in(book: LiveBook) -> Book:
    bids, asks = (dict(zip(*map(np.ndarray.tolist, side), strict=True)) for side in book.sides())
    return bids, asks


def take(book: LiveBook, reader: FrameReader, frame: bytes, at_ns: int) -> bool:
    return book.take(frame, reader.classify(frame), at_ns)


class TestAgainstPlainBook:
    @settings(max_examples=60)
    @given(st.sampled_from(("binance_spot", "binance_usdm")), CHANGES, st.data())
    def test_is_right_whenever_it_is_live(self, venue, changes, data):
        """Messages dropped, repeated and moved, snapshots late: a live book is the venue's own."""
        reader, sent = FrameReader(VENUES[venue]), sent_messages(venue, changes)
        by_id = {each.last: each for each in sent}
        book = LiveBook(reader, TICK, LOT)
        places = data.draw(st.lists(st.integers(0, len(sent) - 1), max_size=60))
        for at_ns, place in enumerate(places):
            take(book, reader, sent[place].frame, at_ns)
            if book.needs_snapshot and data.draw(st.booleans()):
                of = data.draw(st.integers(max(0, place - 3), place))
                book.take_snapshot(sent[of].snapshot(), at_ns)
            if book.is_live:
                assert levels_in(book) == by_id[book.last_id].book

    @given(st.sampled_from(("binance_spot", "binance_usdm")), CHANGES, st.data())
    def test_a_gap_is_where_a_message_is_missing(self, venue, changes, data):
        """One message is dropped: one gap, before the next one; none without it."""
        reader, sent = FrameReader(VENUES[venue]), sent_messages(venue, changes)
        dropped = data.draw(st.integers(1, len(sent)))
        book = LiveBook(reader, TICK, LOT)
        book.take_snapshot(sent[0].snapshot(), 0)
        for at, each in enumerate(sent[1:], 1):
            if at != dropped:
                take(book, reader, each.frame, at)
                is_after = at > dropped
                assert (is_after, int(is_after)) == (not book.is_live, book.gaps)

    @given(CHANGES, st.data())
    def test_what_was_missing_heals_it(self, changes, data):
        """A message that a second connection brings late fills the gap, without a snapshot."""
        reader, sent = FrameReader(VENUES["binance_usdm"]), sent_messages("binance_usdm", changes)
        late = data.draw(st.integers(1, len(sent) - 1))
        book = LiveBook(reader, TICK, LOT)
        book.take_snapshot(sent[0].snapshot(), 0)
        for at, each in enumerate(sent[1:], 1):
            if at != late:
                take(book, reader, each.frame, at)
        take(book, reader, sent[late].frame, len(sent))
        assert (True, sent[-1].book) == (book.is_live, levels_in(book))
        assert 0 == book.seconds.gap_ns

    @pytest.mark.parametrize("most", [(5, 99), (99, 10)], ids=["messages", "levels"])
    def test_what_is_kept_is_bounded(self, monkeypatch, most):
        """Of messages that wait, and of those behind the book, only so many are kept, and of so
        many levels; a snapshot that leads to them makes the book right, an older one does not.
        """
        for name, value in zip(("_MOST_MESSAGES", "_MOST_LEVELS"), most, strict=True):
            monkeypatch.setattr(_kept, name, value)
        changes = [[(True, at % 80 + 1, 1), (False, at % 80 + 1, 2)] for at in range(300)]
        reader, sent = FrameReader(VENUES["binance_usdm"]), sent_messages("binance_usdm", changes)
        book = LiveBook(reader, TICK, LOT)
        book.take_snapshot(sent[0].snapshot(), 0)
        for each in [*sent[1:150], *sent[151:]]:
            take(book, reader, each.frame, 1)
        assert (5, 5) == (len(book._recent), len(book._kept))
        assert not book.take_snapshot(sent[-7].snapshot(), 2)
        assert book.take_snapshot(sent[-6].snapshot(), 3)
        assert sent[-1].book == levels_in(book)

    def test_the_collector_has_nothing_to_look_at(self):
        """What a book keeps of 300 messages is no object that the collector of cycles follows, for
        which all threads would wait.
        """
        changes = [[(True, at % 80 + 1, 1)] for at in range(300)]
        reader, sent = FrameReader(VENUES["binance_usdm"]), sent_messages("binance_usdm", changes)
        book = LiveBook(reader, TICK, LOT)
        book.take_snapshot(sent[0].snapshot(), 0)
        take(book, reader, sent[1].frame, 1)  # kernels load
        gc.collect()
        gc.disable()
        try:
            before = len(gc.get_objects())
            for each in sent[2:]:
                take(book, reader, each.frame, 1)
            more = len(gc.get_objects()) - before
        finally:
            gc.enable()
        assert (True, 299) == (book.is_live, book.messages)
        assert more < 150

    def test_its_arrays_are_small(self):
        """Near or far, its levels lie in less than 5 MB, touched or not, and not in the 17 of a
        rebuild: 32 books are not the memory of a capture.
        """
        reader, sent = FrameReader(VENUES["binance_usdm"]), sent_messages("binance_usdm", _WIDE)
        book = LiveBook(reader, TICK, LOT)
        for book_is in ("empty", "whole", "moved"):
            if book_is == "whole":
                book.take_snapshot(sent[0].snapshot(), 0)
            elif book_is == "moved":
                take(book, reader, sent[1].frame, 1)
                assert sent[1].book == levels_in(book)
            assert 5e6 > sum(array.nbytes for array in book._levels)


_WIDE = [[(True, 5, 1), (False, 5, 2)], [(True, 5 * 10**6, 1), (False, 5 * 10**6, 1)]]


class TestTime:
    def test_every_nanosecond_is_of_one_state(self):
        """Syncing, live, broken and down are counted apart and add up to the whole."""
        reader = FrameReader(VENUES["binance_spot"])
        sent = sent_messages("binance_spot", [[(True, 5, 1)], [(False, 5, 1)], [(True, 6, 1)]])
        book = LiveBook(reader, TICK, LOT)
        book.observe(0)
        book.take_snapshot(sent[0].snapshot(), 10)
        take(book, reader, sent[2].frame, 30)
        book.lost("closed", 45, is_down=True)
        book.connected(100)
        book.take_snapshot(sent[2].snapshot(), 101)
        book.observe(151)
        seconds = book.seconds
        found = (seconds.verified_ns, seconds.gap_ns, seconds.downtime_ns, seconds.unverifiable_ns)
        assert (20 + 50, 10 + 15 + 1, 55, 0) == found

    def test_without_proof_time_is_unverifiable(self):
        """A venue of whole books proves nothing, however many come."""
        reader = FrameReader(VENUES["hyperliquid"])
        book = LiveBook(reader, TICK, LOT)
        side = [{"px": "100.0", "sz": "1", "n": 1}]
        data = {"coin": "X", "time": 1723161256299, "levels": [side, []]}
        frame = json.dumps({"channel": "l2Book", "data": data}).encode()
        for at_ns in (0, 7):
            take(book, reader, frame, at_ns)
        assert (7, 0) == (book.seconds.unverifiable_ns, book.seconds.verified_ns)
        assert Touch(200, 100, 0, 0) == book.touch


KRAKEN_BOOK = {
    "bids": [(100.0 - at, 0.25 + at) for at in range(12)],
    "asks": [(101.0 + at, 0.50 + at) for at in range(12)],
}


def kraken_frame(kind: str, checksum: int, **sides: list[tuple[float, float]]) -> bytes:
    levels = {
        side: "[" + ",".join(f'{{"price":{p:.1f},"qty":{q:.8f}}}' for p, q in each) + "]"
        for side, each in ({"bids": [], "asks": []} | sides).items()
    }
    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"X","bids":{levels["bids"]},'
        f'"asks":{levels["asks"]},"checksum":{checksum},"timestamp":"2023-10-06T17:35:55.44Z"}}]}}'
    ).encode()


def plain_checksum(bids: dict[float, float], asks: dict[float, float]) -> int:
    """As Kraken documents it, from decimals as text."""
    import zlib

    text = ""
    for side in (sorted(asks.items())[:10], sorted(bids.items(), reverse=True)[:10]):
        for price, size in side:
            for number in (f"{price:.1f}", f"{size:.8f}"):
                text += number.replace(".", "").lstrip("0")
    return zlib.crc32(text.encode())


class TestChecksum:
    def test_proves_each_message(self):
        """The venue's checksum agrees after a snapshot and an update, and a wrong one is a loss."""
        reader = FrameReader(VENUES["kraken"])
        book = LiveBook(reader, Scale.of(Decimal("0.1")), Scale.of(Decimal("0.00000001")))
        bids, asks = (dict(KRAKEN_BOOK[side]) for side in ("bids", "asks"))
        take(book, reader, kraken_frame("snapshot", plain_checksum(bids, asks), **KRAKEN_BOOK), 0)
        assert (True, 0) == (book.is_live, book.gaps)
        del bids[100.0]
        update = kraken_frame("update", plain_checksum(bids, asks), bids=[(100.0, 0)])
        take(book, reader, update, 1)
        assert (True, 0) == (book.is_live, book.gaps)
        take(book, reader, kraken_frame("update", 5, asks=[(101.0, 9)]), 2)
        assert (BookState.RESYNC, 1) == (book.state, book.gaps)
        assert book.reason.startswith("checksum 5 expected")


class TestOtherEvidence:
    def live(self) -> tuple[LiveBook, list[Sent], FrameReader]:
        reader = FrameReader(VENUES["binance_spot"])
        changes = [[(True, at, 1), (False, 90 - at, 2)] for at in range(1, 9)]
        sent = sent_messages("binance_spot", changes)
        book = LiveBook(reader, TICK, LOT)
        book.take_snapshot(sent[0].snapshot(), 0)
        for at, each in enumerate(sent[1:], 1):
            take(book, reader, each.frame, at)
        return book, sent, reader

    def test_a_later_snapshot_that_agrees(self):
        """An older snapshot is brought up to the book by the messages since, and agrees."""
        book, sent, _ = self.live()
        assert book.take_snapshot(sent[4].snapshot(), 20)
        assert (1, 0, 0) == (book.snapshots_compared, book.snapshots_differing, book.gaps)

    def test_a_later_snapshot_that_differs(self):
        """A level that no message removed shows: the loss is counted and the book replaced."""
        book, sent, _ = self.live()
        other = Sent(sent[-1].last, b"", ({1: 1, 2: 9}, sent[-1].book[1]))
        assert book.take_snapshot(other.snapshot(), 20)
        assert (1, other.book) == (book.gaps, levels_in(book))

    def test_best_quotes_that_differ(self):
        """Three quotes in a row at ids of the book that differ from it are a loss."""
        book, sent, _ = self.live()
        quote = Quote(1.0, 1.0, 99.0, 1.0, sent[-1].last)
        for _ in range(3):
            assert book.is_live
            book.take_quote(quote)
        assert (BookState.RESYNC, 3, 3) == (book.state, book.quotes_compared, book.quotes_differing)

    def test_a_quote_ahead_of_the_book_waits(self):
        """A quote is compared when the message of its id has been applied."""
        reader = FrameReader(VENUES["binance_spot"])
        sent = sent_messages("binance_spot", [[(True, 5, 1)], [(False, 5, 3)]])
        book = LiveBook(reader, TICK, LOT)
        book.take_snapshot(sent[0].snapshot(), 0)
        book.take_quote(Quote(2.5, 0.01, 52.5, 0.03, sent[1].last))
        assert 0 == book.quotes_compared
        take(book, reader, sent[1].frame, 1)
        assert (1, 0) == (book.quotes_compared, book.quotes_differing)


@pytest.mark.slow
@pytest.mark.parametrize("each", SETS, ids=lambda each: each.name)
def test_real_frames_make_the_book_of_the_batch(each, sample_data: Path):
    """After every message of the sample captures the touch is that of the independent reference.

    So it is of the rebuild, which a test of its own compares with the same rows. The venue's own
    quotes agree too.
    """
    reader = FrameReader(VENUES[f"binance_{each.market}"])
    scales = [Scale.of(Decimal(step)) for step in STEPS[each.name]]
    book = LiveBook(reader, *scales)
    names = ("bid_0_price", "bid_0_size", "ask_0_price", "ask_0_size")
    truth = each.truth_table(sample_data, "reference_bbo").select("sequence_number", *names)
    expected = {number: tuple(touch) for number, *touch in truth.iter_rows()}
    compared = 0
    for file in each.files(sample_data):
        for _, at_ns, text in read_lines(file, Findings()):
            found = reader.classify(text)
            if found.kind is Kind.SNAPSHOT:
                book.take_snapshot(text, at_ns)
            elif found.kind is Kind.QUOTES:
                book.take_quote(*reader.records(text, Kind.QUOTES))
            elif found.kind is Kind.DEPTH and book.take(text, found, at_ns):
                touch = [
                    float(scale.to_floats(np.array([steps]))[0])
                    for steps, scale in zip(book.touch, scales * 2, strict=True)
                ]
                if found.last_id in expected:
                    assert expected[found.last_id] == tuple(touch)
                    compared += 1
    assert (True, 0, 0) == (book.is_live, book.gaps, book.quotes_differing)
    assert compared > 6_000 and book.quotes_compared > 600


def test_ids_of_the_simulated_venue():
    """The simulated frames link as the venue's do, or the tests above would prove nothing."""
    sent = sent_messages("binance_usdm", [[(True, 1, 1)]] * 3)
    datas = [json.loads(each.frame)["data"] for each in sent]
    assert all(before["u"] == after["pu"] < after["U"] for before, after in pairwise(datas))
