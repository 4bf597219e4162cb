from __future__ import annotations

import gc
import random
import shutil
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline import Book, book_at, books_at
from market_pipeline.books.flags import BookFlag
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.rebuild import Rebuild, RebuildOptions
from market_pipeline.books.scale import Scale
from market_pipeline.errors import CheckpointError, DomainError, LakeFileError, MissingDataError
from market_pipeline.notebook import from_checkpoint, instant
from market_pipeline.notebook._raw_scan import scan_raw
from market_pipeline.notebook.feeds import feeds_of
from market_pipeline.notebook.times import nanoseconds_of
from market_pipeline.sources.binance_capture import Findings
from market_pipeline_tests.notebook.conftest import FAULTY, MISSING, NEXT, QUIET, Market

pytestmark = pytest.mark.slow

NOON = datetime(2025, 3, 3, 12, tzinfo=UTC)
QUARTER_TO = "2025-03-03T11:45:00Z"  # noon is the time of a checkpoint
NOON_NS = 1_741_003_200_000_000_000


def straight_through(market: Market, *, uncross: bool) -> list[Keyframe]:
    """The full book after nearly every message of the faulty day, by one uninterrupted rebuild."""
    feeds = feeds_of(market.deltas, market.snapshots, market.trades)
    gaps = scan_raw(feeds.deltas(Findings()), feeds.trade_times, infer_steps=False)
    rebuild = Rebuild(
        Scale.of(market.instrument.tick),
        Scale.of(market.instrument.lot),
        RebuildOptions(depth_interval_ms=None, keyframe_seconds=1, uncross=uncross),
        gap_rows=gaps.gap_rows,
    )
    blocks = rebuild.blocks(feeds.deltas(Findings()), feeds.snapshots(Findings()))
    return [block for block in blocks if isinstance(block, Keyframe)]


@pytest.fixture(scope="module")
def keyframes(market: Market) -> list[Keyframe]:
    """The books of the faulty day with the default policies."""
    return straight_through(market, uncross=False)


def at(market: Market, time, **more) -> Book:
    return book_at(market.instrument.id, time, data_dir=market.data_dir, **more)


def levels(book: Book) -> list[list[tuple[int, int]]]:
    return [side.select("price_ticks", "size_lots").rows() for side in (book.bids, book.asks)]


def assert_is(book: Book, frame: Keyframe) -> None:
    """The book is that of the keyframe in every level, its horizon, its times and its flags."""
    assert levels(book) == [
        list(zip(frame.bid_price_ticks.tolist(), frame.bid_size_lots.tolist(), strict=True)),
        list(zip(frame.ask_price_ticks.tolist(), frame.ask_size_lots.tolist(), strict=True)),
    ]
    known = (frame.bid_horizon_ticks, frame.ask_horizon_ticks)
    assert (
        *(None if ticks is None else ticks / 10 for ticks in known),
        (frame.ts_origin_ns, frame.ts_receipt_ns, frame.sequence_number, frame.flags),
    ) == (
        book.known_low_price,
        book.known_high_price,
        (book.ts_origin_ns, book.ts_receipt_ns, book.sequence_number, book.flags),
    )


def configured(folder: Path, policies: str) -> None:
    """Writes an instruments file with these policies."""
    (folder / "instruments.yaml").write_text(
        "instruments:\n"
        "  - {venue: SIMULATED, symbol: BTC-USDT-PERP, source: simulated, "
        f"policies: {{{policies}}}}}\n"
    )


class TestBookAt:
    def test_is_the_pipelines_book(self, market: Market, keyframes: list[Keyframe]):
        """At any instant every level is that of an uninterrupted rebuild, with its flags."""
        doubtful = [frame for frame in keyframes if frame.flags]
        chosen = random.Random(5).sample(keyframes, 15) + random.Random(6).sample(doubtful, 10)
        seen = BookFlag(0)
        for frame in [*chosen, keyframes[0], keyframes[-1]]:
            assert_is(at(market, frame.ts_receipt_ns), frame)
            seen |= BookFlag(frame.flags)
        assert BookFlag.NOT_SEEDED | BookFlag.CROSSED | BookFlag.PRECISION_LOSS in seen

    def test_policies_are_in_force(
        self, market: Market, keyframes, monkeypatch: pytest.MonkeyPatch
    ):
        """Levels that the policy uncross removed are not in the book."""
        monkeypatch.setenv("PIPELINE_LAKE_URI", str(market.lake))
        start_ns = NOON_NS + 7 * 3_600 * 10**9
        flagged = {frame.messages: frame for frame in keyframes}
        frames = straight_through(market, uncross=True)
        some = [each for each in frames if each.ts_receipt_ns > start_ns][:160:20]
        assert any(each.flags != flagged[each.messages].flags for each in some)
        for frame in some:
            book = book_at(market.instrument.id, frame.ts_receipt_ns, data_dir=market.uncrossed)
            assert_is(book, frame)

    def test_after_a_gap(self, market: Market, keyframes: list[Keyframe]):
        """What the pipeline flagged GAP is flagged so here, and recovered by the same snapshot."""
        number = next(n for n, frame in enumerate(keyframes) if frame.flags & BookFlag.GAP)
        for frame in keyframes[number - 1 : number + 3]:
            assert_is(at(market, frame.ts_receipt_ns), frame)

    def test_the_last_message_counts(self, market: Market, keyframes: list[Keyframe]):
        """A nanosecond before a message the book is still that of the message before."""
        before, after = keyframes[2_000:2_002]
        assert_is(at(market, after.ts_receipt_ns - 1), before)
        assert_is(at(market, after.ts_receipt_ns), after)

    @pytest.mark.parametrize("which", [0, 2, -1])
    def test_at_a_checkpoint_no_raw_row_is_needed(
        self, market: Market, monkeypatch: pytest.MonkeyPatch, which
    ):
        """The book of a checkpoint is there without the lake."""
        monkeypatch.setenv("PIPELINE_LAKE_URI", "nowhere")
        checkpoint = market.published("book_checkpoints").row(which, named=True)
        book = at(market, checkpoint["ts_receipt_ns"])
        assert checkpoint["bid_size_lots"] == book.bids["size_lots"].to_list()
        assert checkpoint["flags"] == book.flags

    def test_a_day_that_began_with_the_close_before(self, market: Market):
        """Before its first checkpoint such a day goes on from the closing book."""
        first = market.published("book_bbo", NEXT).row(40, named=True)
        book = at(market, first["ts_receipt_ns"])
        assert (0, first["bid_price"], first["ask_size"]) == (
            book.flags,
            book.bids["price"][0],
            book.asks["size"][0],
        )
        assert book.bids.height > 100  # a snapshot alone would give 20

    def test_before_the_first_message_of_a_day(self, market: Market):
        """At midnight the book is the closing book of the day before."""
        close = market.published("book_checkpoints", QUIET).row(-1, named=True)
        book = at(market, "2025-03-06T00:00:00Z")
        assert close["sequence_number"] == book.sequence_number
        assert close["ask_price_ticks"] == book.asks["price_ticks"].to_list()

    def test_stale(self, market: Market):
        """In a silence the book grows stale, at the age that was asked for."""
        silence, hour = "2025-03-03T10:30:00Z", 3_600
        assert BookFlag.STALE in at(market, silence).flags
        assert BookFlag.STALE not in at(market, silence, max_age_seconds=3 * hour).flags
        assert not at(market, silence).is_valid

    def test_depth(self, market: Market):
        """Only so many levels a side are returned as were asked for."""
        book, cut = at(market, NOON), at(market, NOON, depth=5)
        assert [side[:5] for side in levels(book)] == levels(cut)

    def test_the_folder_of_the_settings(self, market: Market, monkeypatch: pytest.MonkeyPatch):
        """Without a folder it is the one of the settings in force, and so is the lake."""
        monkeypatch.setenv("PIPELINE_DATA_DIR", str(market.data_dir))
        assert levels(at(market, NOON)) == levels(book_at(market.instrument.id, NOON))


class TestTime:
    @pytest.mark.parametrize(
        "time",
        [
            NOON,
            NOON.astimezone(timezone(timedelta(hours=8))),
            NOON_NS,
            "2025-03-03T12:00:00Z",
            "2025-03-03 12:00+00:00",
            "2025-03-03T20:00:00.000000000+08:00",
        ],
    )
    def test_forms(self, market: Market, time):
        """Datetimes of any zone, text with a zone and integers mean the same instant."""
        assert at(market, NOON_NS).sequence_number == at(market, time).sequence_number

    def test_no_nanosecond_is_lost(self, market: Market, keyframes: list[Keyframe]):
        """Nine decimals of text, and datetimes finer than Python's, are taken to the last one."""

        class Finer(datetime):
            nanosecond = 0

        frame = next(each for each in keyframes[1_000:] if each.ts_receipt_ns % 1_000)
        whole = datetime.fromtimestamp(frame.ts_receipt_ns // 10**9, UTC)
        fraction = frame.ts_receipt_ns % 10**9
        text = f"{whole:%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"
        finer = Finer.fromisoformat(whole.isoformat()) + timedelta(microseconds=fraction // 1_000)
        finer.nanosecond = fraction % 1_000
        for time in (text, finer):
            assert frame.sequence_number == at(market, time).sequence_number

    @given(st.integers(0, 4 * 10**18), st.integers(-14 * 60, 14 * 60))
    def test_text_is_exact(self, time_ns: int, offset_minutes: int):
        """The text of any nanosecond in any zone is read as that nanosecond."""
        zone = timezone(timedelta(minutes=offset_minutes))
        whole = datetime.fromtimestamp(time_ns // 10**9, zone).isoformat()
        text = f"{whole[:19]}.{time_ns % 10**9:09d}{whole[19:]}"
        assert time_ns == nanoseconds_of(text)

    @pytest.mark.parametrize(
        "time",
        [
            datetime(2025, 3, 3, 12),  # noqa: DTZ001
            "2025-03-03T12:00:00",
            "2025-03-03",
            "2025-13-03T12:00:00Z",
            "noon",
            1.5,
            None,
            10**30,
        ],
    )
    def test_no_instant(self, market: Market, time):
        """A time without a zone may be any of many instants, so it is refused as nonsense is."""
        with pytest.raises(DomainError) as caught:
            at(market, time)
        assert ("time", repr(time)) == (caught.value.column, caught.value.found)


class TestErrors:
    def test_no_message_before(self, market: Market):
        """Before the first message of all, and after a day that is missing, there is no book."""
        for time in ("2025-03-03T00:00:00Z", "2025-03-05T00:00:00Z"):
            with pytest.raises(MissingDataError, match="no published message at or before"):
                at(market, time)

    def test_a_day_that_is_not_published(self, market: Market):
        """A missing day has no book, whatever the day before had."""
        with pytest.raises(MissingDataError, match=f"no {MISSING}"):
            at(market, f"{MISSING}T12:00:00Z")

    def test_raw_rows_are_gone(self, market: Market, monkeypatch: pytest.MonkeyPatch):
        """Where the lake was pruned the error names the file that is needed."""
        monkeypatch.setenv("PIPELINE_LAKE_URI", "nowhere")
        with pytest.raises(MissingDataError, match="not in the lake any more") as caught:
            at(market, QUARTER_TO)
        named = Path(caught.value.file).relative_to(Path("nowhere").absolute())
        assert market.lake / named == market.deltas / "1.snappy.parquet"
        assert FAULTY == caught.value.day

    @pytest.fixture
    def shard(self, market: Market, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        """The shard that is needed, in a copy of the lake that may be changed."""
        shutil.copytree(market.lake, tmp_path / "lake")
        monkeypatch.setenv("PIPELINE_LAKE_URI", str(tmp_path / "lake"))
        return tmp_path / "lake" / market.deltas.relative_to(market.lake) / "6.snappy.parquet"

    def test_raw_rows_changed(self, market: Market, shard: Path):
        """A raw file of another size than was registered, or damaged inside, is refused."""
        whole = shard.read_bytes()
        half = len(whole) // 2
        shard.write_bytes(whole[:half] + bytes(2_000) + whole[half + 2_000 :])
        with pytest.raises(LakeFileError, match="damaged"):
            at(market, QUARTER_TO)
        shard.write_bytes(whole[:-100])
        with pytest.raises(LakeFileError, match="changed since"):
            at(market, QUARTER_TO)

    def test_other_rows(self, market: Market, shard: Path, monkeypatch: pytest.MonkeyPatch):
        """Rows that lead elsewhere than what was published are refused, not returned."""
        rows = pl.read_parquet(shard, hive_partitioning=False)
        lost = at(market, QUARTER_TO).sequence_number
        rows.filter(pl.col("sequence_number") != lost).write_parquet(shard)
        files = iter([[shard], []])  # of deltas and of snapshots, whatever size is registered
        monkeypatch.setattr(from_checkpoint, "_files", lambda *_: next(files))
        with pytest.raises(CheckpointError, match="do not lead to the published row") as caught:
            at(market, QUARTER_TO)
        assert caught.value.found.endswith("in the lake")

    def test_other_policies(self, market: Market, keyframes: list[Keyframe], folder: Path):
        """Policies changed since change no book: in force are those the day was rebuilt by."""
        resynced = next(n for n, frame in enumerate(keyframes) if frame.flags & BookFlag.GAP) + 1
        time = keyframes[resynced].ts_receipt_ns
        before = at(market, time)
        configured(folder, "resync: never")
        assert levels(before) == levels(at(market, time))


def books_in_memory() -> int:
    return sum(type(each) is Book for each in gc.get_objects())


class TestBooksAt:
    def test_is_book_at(self, market: Market, keyframes: list[Keyframe]):
        """Books of many instants, over days and before the first message of one, are those that
        each instant has alone.
        """
        chosen = sorted(
            random.Random(3).sample([frame.ts_receipt_ns for frame in keyframes], 12)
            + [keyframes[0].ts_receipt_ns] * 2
        )
        later = market.published("book_bbo", NEXT)["ts_receipt_ns"]
        midnight = nanoseconds_of("2025-03-06T00:00:00Z")
        times = [*chosen, midnight, midnight, later[7], later[-1]]
        books = list(books_at(market.instrument.id, times, data_dir=market.data_dir, depth=30))
        alone = [at(market, time, depth=30) for time in times]
        assert [levels(book) for book in alone] == [levels(book) for book in books]
        told = [(book.sequence_number, book.ts_receipt_ns, book.flags) for book in books]
        assert [(book.sequence_number, book.ts_receipt_ns, book.flags) for book in alone] == told

    def test_new_starts(self, market: Market, monkeypatch: pytest.MonkeyPatch):
        """Starting at a later checkpoint instead of replaying up to it gives the same books."""
        rows = market.published("book_bbo")["ts_receipt_ns"].to_list()[::400]
        ask = partial(books_at, market.instrument.id, rows, data_dir=market.data_dir)
        one_pass = [levels(book) for book in ask()]
        monkeypatch.setattr(from_checkpoint, "_WORTH_A_START", 0)
        assert one_pass == [levels(book) for book in ask()]

    def test_holds_one_book_at_a_time(self, market: Market, monkeypatch: pytest.MonkeyPatch):
        """However many are asked for, one book is held beside the user's, and a few rows."""
        rows = market.published("book_bbo")["ts_receipt_ns"].sort().to_list()[::8]
        ask = partial(books_at, market.instrument.id, rows, data_dir=market.data_dir)
        whole = [levels(book) for book in ask()]
        monkeypatch.setattr(instant, "_ROWS_AT_ONCE", 256)
        before, in_parts, most = books_in_memory(), [], 0
        for book in ask():
            in_parts.append(levels(book))
            most = max(most, books_in_memory() - before if len(in_parts) % 50 == 0 else 0)
        assert (whole, True) == (in_parts, 1 <= most <= 2)

    def test_none(self, market: Market):
        """No instants have no books."""
        assert [] == list(books_at(market.instrument.id, [], data_dir=market.data_dir))

    def test_one_time_or_no_depth(self, market: Market):
        """One time is no list of them, and a depth below 0 would leave out the last levels."""
        ask = partial(books_at, market.instrument.id, data_dir=market.data_dir)
        with pytest.raises(DomainError, match="`times` is one time"):
            ask("2025-03-05T12:00:00Z")
        with pytest.raises(DomainError, match="no number of levels"):
            ask(["2025-03-05T12:00:00Z"], depth=-1)

    def test_order(self, market: Market):
        """Instants that do not ascend are refused at once."""
        with pytest.raises(DomainError, match="do not ascend"):
            books_at(market.instrument.id, [NOON, QUARTER_TO], data_dir=market.data_dir)
