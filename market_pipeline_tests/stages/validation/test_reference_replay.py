from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from shutil import copytree

import polars as pl
import pytest

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.tables import CHECKPOINTS
from market_pipeline.config.instruments import GapRule, Instrument, Policies
from market_pipeline.quality.reference.book import PlainSide
from market_pipeline.sources.crypto_lake import DELTAS, day_folder
from market_pipeline.sources.simulated import Fault, FaultKind, simulate
from market_pipeline.stages.validation import reference_replay
from market_pipeline.stages.validation._reference_start import starts_of
from market_pipeline.stages.validation.context import InstrumentDay
from market_pipeline.stages.validation.reference_replay import measure_reference_replay
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import current_files
from market_pipeline_tests.quality.sample import SAMPLE_DAYS
from market_pipeline_tests.sources.simulated import days as simulated
from market_pipeline_tests.stages.day_rows import FrameRows
from market_pipeline_tests.stages.validation.replay_days import published, tampered

pytestmark = pytest.mark.slow

MARKET = simulated.instrument()
OF = MARKET.as_instrument()
PATIENCE_NS = 10 * 10**9
HOURLY = {"checkpoint_seconds": 3_600}


@pytest.fixture(scope="module")
def lake_of_a_day(tmp_path_factory) -> Path:
    """A simulated day of 30 messages a minute."""
    lake = tmp_path_factory.mktemp("reference_replay")
    small = {"messages_per_day": 43_200, "snapshot_interval_s": 10.0}
    simulate(lake, [MARKET], simulated.DAY, simulated.DAY, **small)
    return lake


@pytest.fixture(scope="module")
def good_day(lake_of_a_day: Path, tmp_path_factory) -> InstrumentDay:
    """The same, published with a keyframe an hour."""
    root = tmp_path_factory.mktemp("published")
    warehouse = Warehouse(root / "data")
    warehouse.prepare()
    return published(root, lake_of_a_day, warehouse, OF, simulated.DAY, **HOURLY)


def figures(day: InstrumentDay) -> tuple[int, int, int]:
    found = measure_reference_replay(day).columns
    return tuple(found[f"reference_{n}"] for n in ("minutes", "messages", "differing_messages"))


def messages_of(day: InstrumentDay, count: int | None = None, **which: bool) -> list[int]:
    """The first messages of the sampled minutes."""
    count = day.settings.reference_minutes if count is None else count
    return [start.message for start in starts_of(day, count, PATIENCE_NS, **which)]


def among(day: InstrumentDay, others: int) -> InstrumentDay:
    """The same day, of which so many other instruments have a book too."""
    own = day.books.rebuilds
    rows = [own, *(own.with_columns(symbol=pl.lit(f"OTHER{n}-USD")) for n in range(others))]
    return replace(day, books=replace(day.books, rebuilds=pl.concat(rows)))


class TestEqual:
    def test_minutes_of_a_day(self, good_day: InstrumentDay):
        """Three minutes are compared, the day's first among them, and no message differs."""
        received = pl.col("ts_receipt_ns")
        starts = messages_of(good_day)
        bbo = good_day.books.bbo.of(OF.id).collect()
        expected = sum(
            bbo[first:].filter(received < received.first() + 60 * 10**9).height for first in starts
        )

        assert (3, expected, 0) == figures(good_day)
        assert (0, 3) == (starts[0], len(set(starts)))
        assert expected > 50
        assert (None, []) == (
            measure_reference_replay(good_day).columns["reference_first_difference"],
            measure_reference_replay(good_day).findings,
        )

    def test_the_same_minutes_each_time(self, good_day: InstrumentDay):
        """Which minutes are sampled is no chance, and more of them include the fewer."""
        more = replace(
            good_day, settings=good_day.settings.model_copy(update={"reference_minutes": 9})
        )

        assert messages_of(good_day) == messages_of(good_day)
        assert set(messages_of(good_day)) < set(messages_of(more))
        assert 9 == len(messages_of(more))

    def test_a_minute_too_busy_is_cut_at_a_message(self, good_day: InstrumentDay, monkeypatch):
        """Of a minute that takes more work than its part, the messages within that are compared."""
        _, every, _ = figures(good_day)
        monkeypatch.setattr(reference_replay, "LEAST_WORK", 400)
        monkeypatch.setattr(reference_replay, "LEAST_OF_ONE", 0)
        _, within, differing = figures(good_day)

        assert 0 < within < every
        assert 0 == differing

    @pytest.mark.parametrize(("others", "minutes"), [(1, 2), (2, 1), (9, 1), (999, 1)])
    def test_instruments_of_a_day_share_its_work(
        self, good_day: InstrumentDay, others: int, minutes: int
    ):
        """With many instruments fewer minutes are compared of each, drawn from those of one."""
        few = among(good_day, others)
        found = figures(few)

        assert (minutes, 0) == (found[0], found[2])
        assert 0 < found[1] < figures(good_day)[1]
        assert found == figures(few)

    def test_first_minutes_and_keyframes_take_turns(self, good_day: InstrumentDay):
        """Where one minute is compared, it is the day's first of some instruments only."""
        is_first = {
            reference_replay.lot(replace(good_day, instrument=each), "first") % 3 == 0
            for each in (OF, *(OF.model_copy(update={"symbol": f"S{n}-USD"}) for n in range(20)))
        }
        starts = [
            messages_of(good_day, 1, with_first=with_first)[0] for with_first in (True, False)
        ]

        assert {True, False} == is_first
        assert (0, True) == (starts[0], starts[1] > 0)

    def test_a_day_without_keyframes_begins_at_its_first_message(
        self, good_day: InstrumentDay, folder: Path
    ):
        """There is nothing else to begin at."""
        nothing = replace(good_day.lookups, warehouse=Warehouse(folder))
        empty = replace(good_day, lookups=nothing)

        assert [0] == messages_of(empty, 1, with_first=False)

    @pytest.mark.parametrize("policy", ["never", "always"])
    def test_by_the_policies_it_was_published_with(
        self, lake_of_a_day: Path, folder: Path, warehouse: Warehouse, policy: str
    ):
        """What an instrument is configured to be since then makes no difference."""
        of = OF.model_copy(update={"policies": Policies(resync=policy)})
        day = published(folder, lake_of_a_day, warehouse, of, simulated.DAY, **HOURLY)

        assert 0 == figures(replace(day, instrument=OF))[2]

    def test_a_record_that_does_not_tell_them(self, good_day: InstrumentDay):
        """A day of an earlier version is rebuilt by the instrument's policies."""
        untold = replace(good_day, record=replace(good_day.record, policies=None))

        assert figures(good_day) == figures(untold)

    def test_a_day_of_gaps_and_crosses(self, folder: Path, lake: Path, warehouse: Warehouse):
        """Where messages are suspected to be lost is taken from the published intervals."""
        faults = [
            Fault(
                kind=kind,
                symbol=MARKET.symbol,
                day=simulated.DAY,
                at_s=at_s,
                duration_s=for_s,
            )
            for kind, at_s, for_s in (
                (FaultKind.SILENCE_GAP, 20, 25),
                (FaultKind.SILENCE_GAP, 3_620, 25),
                (FaultKind.CROSSED_MINUTE, 7_200, 60),
            )
        ]
        simulate(
            lake, [MARKET], simulated.DAY, simulated.DAY, messages_per_day=86_400, faults=faults
        )
        of = OF.model_copy(update={"gap_rule": GapRule(silence_factor=1.0)})
        day = published(folder, lake, warehouse, of, simulated.DAY, **HOURLY, reference_minutes=30)
        bbo = day.books.bbo.of(OF.id).select("ts_receipt_ns", "flags").collect()
        seen = [
            BookFlag(flags)
            for start in messages_of(day)
            for flags in bbo[start:].filter(
                pl.col("ts_receipt_ns") < pl.col("ts_receipt_ns").first() + 60 * 10**9
            )["flags"]
        ]

        assert 0 == figures(day)[2]
        for flag in (BookFlag.GAP, BookFlag.CROSSED):
            assert any(flag in flags for flags in seen), flag


def swapped(messages: list[pl.DataFrame]) -> list[pl.DataFrame]:
    """Every hundredth message changes places with the next one."""
    for at in range(50, len(messages) - 1, 100):
        messages[at], messages[at + 1] = messages[at + 1], messages[at]
    return messages


def late(messages: list[pl.DataFrame]) -> list[pl.DataFrame]:
    """Every five hundredth block of three messages comes ten messages late."""
    for at in range(100, len(messages) - 20, 500):
        messages[at : at + 13] = [*messages[at + 3 : at + 13], *messages[at : at + 3]]
    return messages


def stamped(messages: list[pl.DataFrame], column: str, by: int) -> list[pl.DataFrame]:
    """Every thousandth message has another time or number."""
    return [
        each.with_columns(pl.col(column) + by) if at % 1_000 == 20 else each
        for at, each in enumerate(messages)
    ]


SECOND = 10**9
FAULTS = {
    "twice": lambda messages: [*messages, *messages],
    "overlap": lambda messages: [*messages[:24_000], *messages[20_000:]],
    "short overlap": lambda messages: [*messages[:24_000], *messages[23_700:]],
    "swapped": swapped,
    "late": late,
    "receipt ahead": lambda messages: stamped(messages, "receipt_timestamp", 40_000 * SECOND),
    "receipt back": lambda messages: stamped(messages, "receipt_timestamp", -86_400 * SECOND),
    "origin ahead": lambda messages: stamped(messages, "timestamp", 86_400 * SECOND),
    "number": lambda messages: stamped(messages, "sequence_number", 10**12),
    "restart": lambda messages: [
        *messages[:30_000],
        *(each.with_columns(pl.col("sequence_number") - 10_000_000) for each in messages[30_000:]),
    ],
    "lost": lambda messages: [*messages[:10_000], *messages[10_003:]],
}


class TestFaultsOfTheFeed:
    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_right_book_is_not_called_wrong(
        self, lake_of_a_day: Path, folder: Path, warehouse: Warehouse, fault: str
    ):
        """The reference book knows repeats, lateness and bad stamps, and has keyframes left."""
        lake = folder / "damaged"
        copytree(lake_of_a_day, lake)
        (file,) = day_folder(lake, DELTAS, OF.venue, OF.symbol, simulated.DAY).glob("*.parquet")
        rows = pl.read_parquet(file, hive_partitioning=False)
        messages = rows.partition_by("sequence_number", "receipt_timestamp", maintain_order=True)
        pl.concat(FAULTS[fault](messages)).write_parquet(file)
        many = {"checkpoint_seconds": 600, "reference_minutes": 12}
        measured = measure_reference_replay(
            published(folder, lake, warehouse, OF, simulated.DAY, **many)
        )

        assert (None, 0) == (
            measured.columns["reference_first_difference"],
            measured.columns["reference_differing_messages"],
        )
        assert measured.columns["reference_minutes"] > 1
        assert measured.columns["reference_messages"] > 100


class TestDifferent:
    @pytest.mark.parametrize("minute", [0, 1, 2])
    def test_a_published_price_is_another(self, good_day: InstrumentDay, minute: int):
        """One changed price is one differing message, told with both books and its raw rows."""
        message = messages_of(good_day)[minute] + 20
        row = good_day.books.bbo.of(OF.id).collect().row(message, named=True)
        day = tampered(good_day, "bbo", message, bid_price_ticks=row["bid_price_ticks"] - 3)
        measured = measure_reference_replay(day)
        (finding,) = measured.findings
        raw = pl.read_parquet(day.delta_files[0], hive_partitioning=False)
        told = measured.columns["reference_first_difference"]

        assert 1 == measured.columns["reference_differing_messages"]
        assert f"sequence number {row['sequence_number']}, message {message}: published" in told
        assert (row["ts_receipt_ns"], row["sequence_number"]) == (
            finding.ts_receipt_ns,
            finding.sequence_number,
        )
        assert f"at {row['bid_price']:.1f}, ask" in finding.expected
        assert f"at {row['bid_price'] - 0.3:.1f}, ask" in finding.value
        assert finding.file == day.delta_files[0].relative_to(day.raw.lake).as_posix()
        assert row["sequence_number"] == raw["sequence_number"][finding.row]
        assert f" {finding.row} " in told[told.index("(row") :]

    @pytest.mark.parametrize(
        ("column", "change", "said"),
        [
            ("flags", int(BookFlag.GAP), "flags GAP"),
            ("sequence_number", 1, "sequence number"),
            ("ts_receipt_ns", 1, "received"),
            ("ts_origin_ns", 1, "sent"),
            ("ask_size_lots", 1, "ask"),
        ],
    )
    def test_any_other_column(self, good_day: InstrumentDay, column: str, change: int, said: str):
        """Flags, times, numbers and sizes are compared as well."""
        value = good_day.books.bbo.of(OF.id).collect()[column][7] + change
        measured = measure_reference_replay(tampered(good_day, "bbo", 7, **{column: value}))
        (finding,) = measured.findings

        assert 1 == measured.columns["reference_differing_messages"]
        assert said in finding.value
        assert finding.value != finding.expected

    def test_a_level_of_the_depth(self, good_day: InstrumentDay):
        """A size deep in the depth is compared too, and told by its level."""
        row = good_day.books.depth.of(OF.id).collect().row(30, named=True)
        day = tampered(good_day, "depth", 30, ask_17_size_lots=row["ask_17_size_lots"] + 1)
        (finding,) = measure_reference_replay(day).findings

        assert row["sequence_number"] == finding.sequence_number
        assert (finding.value or "").startswith("level 17 of the asks in books.depth")

    def test_a_row_too_few(self, good_day: InstrumentDay):
        """Without one published row all later ones of the minute differ, the next one first."""
        bbo = good_day.books.bbo.of(OF.id).collect()
        short = FrameRows(pl.concat([bbo[:10], bbo[11:]]))
        day = replace(good_day, books=replace(good_day.books, bbo=short))
        first, *_ = measure_reference_replay(day).findings

        assert bbo["sequence_number"][11] == first.sequence_number
        assert figures(day)[2] > 10

    def test_a_fault_of_the_reference(self, good_day: InstrumentDay, monkeypatch):
        """A plain book that forgets a removal is another book."""
        put = PlainSide.put
        monkeypatch.setattr(PlainSide, "put", lambda side, price, size: put(side, price, size or 1))

        assert figures(good_day)[2] > 10

    def test_a_damaged_keyframe(self, folder: Path, lake_of_a_day: Path, warehouse: Warehouse):
        """A keyframe that is not the book its checksum says is told, and other minutes compared."""
        day = published(folder, lake_of_a_day, warehouse, OF, simulated.DAY, **HOURLY)
        start = messages_of(day)[1]
        (file,) = current_files(warehouse, CHECKPOINTS)
        rows = pl.read_parquet(file, hive_partitioning=False)
        wrong = pl.when(pl.col("messages") == start).then(pl.lit("0" * 64)).otherwise("checksum")
        rows.with_columns(checksum=wrong).write_parquet(file)
        measured = measure_reference_replay(day)

        assert (3, 1) == (
            measured.columns["reference_minutes"],
            measured.columns["reference_differing_messages"],
        )
        assert "The checkpoint is damaged" in measured.columns["reference_first_difference"]
        assert "0" * 64 == measured.findings[0].expected


class TestNotAsked:
    def test_turned_off(self, good_day: InstrumentDay):
        """With no minute wanted nothing is measured."""
        off = good_day.settings.model_copy(update={"reference_minutes": 0})

        assert {} == measure_reference_replay(replace(good_day, settings=off)).columns

    def test_a_day_of_snapshots(self, good_day: InstrumentDay):
        """A day published from snapshots was not rebuilt from messages."""
        record = replace(good_day.record, strategy="snapshots_only")

        assert {} == measure_reference_replay(replace(good_day, record=record)).columns

    def test_raw_files_that_changed_since(self, folder: Path, lake: Path, warehouse: Warehouse):
        """A raw file that was replaced is a finding and no exception."""
        simulate(lake, [MARKET], simulated.DAY, simulated.DAY, messages_per_day=1_000)
        day = published(folder, lake, warehouse, OF, simulated.DAY)
        (file,) = day.delta_files
        file.write_bytes(file.read_bytes() + b"more")
        measured = measure_reference_replay(replace(day))

        assert {} == measured.columns
        assert "changed since it was registered" in measured.findings[0].note

    def test_a_fault_of_ours_is_not_hidden(self, good_day: InstrumentDay, monkeypatch):
        """What is not about the data is raised."""

        def broken(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(PlainSide, "put", broken)
        with pytest.raises(ZeroDivisionError):
            measure_reference_replay(good_day)


@pytest.mark.parametrize(
    ("exchange", "symbol", "day"), SAMPLE_DAYS, ids=[f"{x}:{s} {d}" for x, s, d in SAMPLE_DAYS]
)
def test_real_days(
    sample_data: Path,
    folder: Path,
    warehouse: Warehouse,
    monkeypatch: pytest.MonkeyPatch,
    exchange: str,
    symbol: str,
    day: date,
):
    """On every real day two whole minutes of the published book are those of the plain rebuild."""
    monkeypatch.setattr(reference_replay, "LEAST_WORK", 10**8)
    of = Instrument(venue=exchange, symbol=symbol, source="crypto_lake")
    lake, few = sample_data / "lake", {"checkpoint_seconds": 100, "reference_minutes": 2}
    real = published(folder, lake, warehouse, of, day, **few)
    minutes, messages, differing = figures(real)

    assert (2, 0) == (minutes, differing)
    assert messages > 1_000


# --- any small day ----------------------------------------------------------------------------
