"""The fault library itself, the truth it is validated by, and some of its kinds validated."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from market_pipeline_tests.detection.bases import Base, load_base, prepare_simulated
from market_pipeline_tests.detection.faults import CASES, KINDS, Case, compose
from market_pipeline_tests.detection.faults.capture_day import CaptureDay, Line
from market_pipeline_tests.detection.faults.day import FOLDERS, OURS, TABLES, RawDay
from market_pipeline_tests.detection.planted import UNPLACED, Planted, matched
from market_pipeline_tests.detection.trial import try_fault
from market_pipeline_tests.detection.truth import full_book
from market_pipeline_tests.quality.sample import SAMPLE_DAYS, read_table
from market_pipeline_tests.sources.capture_files import depth, line, rest, trade

OF_TABLES = [case for case in CASES.values() if not case.kind.of_captures]
OF_CAPTURES = [case for case in CASES.values() if case.kind.of_captures]
EXACT_ON_THIS_DAY = {"removals as negative zero"}
"""Changes that Polars calls equal."""

# One or two of each class: `-m attack` validates them all.
VALIDATED = (
    "message lost [0.5]",
    "burst of messages lost",
    "message repeated far",
    "messages swapped",
    "message late [50]",
    "feed frozen",
    "number wrong [ten times]",
    "numbers restart",
    "receipt stamp wrong [day back]",
    "all origin stamps wrong [zero]",
    "snapshots of another message [1]",
    "silence of all streams",
    "shards overlap [200]",
    "rows of the next day [after]",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A whole simulated day, with its truth and its clean verdict."""
    return load_base(prepare_simulated(tmp_path_factory.mktemp("base"), "whole day"))


@pytest.fixture(scope="module")
def capture() -> CaptureDay:
    """A small capture of 400 events around a book of ten levels a side."""
    drawn = np.random.default_rng(3)
    bids = [(f"{100 - k / 100:.2f}", "5.00000") for k in range(30)]
    asks = [(f"{100.01 + k / 100:.2f}", "5.00000") for k in range(30)]
    lines = [Line(line(rest(1_000, bids, asks), 0), "rest", -1)]
    for event in range(400):
        sides = [
            [(str(price), f"{drawn.integers(0, 900) / 100:.5f}") for price, _ in side[1:6]]
            for side in (bids, asks)
        ]
        frame = depth("spot", (1_000 + event, 1_001 + event), *sides)
        lines.append(Line(line(frame, event + 1, stream="btcusdt@depth@100ms"), "depth", event))
        if event % 3 == 0:
            text = line(trade(event), event + 1, stream="btcusdt@trade")
            lines.append(Line(text, "other", -1))
    day = SAMPLE_DAYS[0]
    return CaptureDay("spot", day[0], day[1], day[2], tuple(lines))


def same_rows(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    return one.drop(OURS).equals(other.drop(OURS), null_equal=True) and one["shard"].equals(
        other["shard"]
    )


class TestLibrary:
    def test_it_is_large(self):
        """There are at least 120 kinds for tables, and at least 40 more for captures."""
        of_captures = [kind for kind in KINDS if kind.of_captures]
        assert (True, True) == (len(KINDS) - len(of_captures) >= 120, len(of_captures) >= 40)

    def test_every_kind_says_what_it_does(self):
        """Each has a sentence of its own, and names tables that there are."""
        sentences = [kind.sentence for kind in KINDS]
        unclear = [each for each in sentences if not re.fullmatch(r"[A-Z].{15,}\.", each)]
        tables = {table for kind in KINDS for table in kind.tables}
        assert ([], len(KINDS), {*TABLES, "captures"}) == (unclear, len(set(sentences)), tables)

    @pytest.mark.parametrize("case", OF_TABLES, ids=lambda case: case.name)
    def test_a_case_changes_its_tables_only(self, base: Base, case: Case):
        """The spoilt day differs, in the tables the kind names, and keeps the vendor's types."""
        assert isinstance(base.day, RawDay)
        spoilt = case(base.day)
        touched = {damage.table for damage in spoilt.damage}
        touched |= {each[0] for each in spoilt.more_files}
        touched |= {
            name for name in TABLES if not same_rows(spoilt.table(name), base.day.table(name))
        }
        schemas = [spoilt.table(name).schema == base.day.table(name).schema for name in TABLES]
        if case.name not in EXACT_ON_THIS_DAY:
            assert touched
        assert (set(), [True] * 3) == (touched - set(case.kind.tables), schemas)

    @pytest.mark.parametrize("case", OF_CAPTURES, ids=lambda case: case.name)
    def test_a_case_changes_its_capture(self, capture: CaptureDay, case: Case, tmp_path: Path):
        """The files of the spoilt capture are not those of the clean one."""
        written = []
        for name, day in (("clean", capture), ("spoilt", case(capture))):
            day.write(tmp_path / name)
            files = sorted((tmp_path / name).rglob("*.gz"))
            written.append([(file.name, file.read_bytes()) for file in files])
        assert written[0] != written[1]

    def test_the_clean_day_is_left_alone(self, base: Base):
        """A fault gives another day; it does not write into the one it is given."""
        before = {name: base.day.table(name).clone() for name in TABLES}
        for kind in [kind for kind in KINDS if not kind.of_captures][:20]:
            kind.each_case()[0](base.day)
        assert [True] * 3 == [before[name].equals(base.day.table(name)) for name in TABLES]

    def test_faults_compose(self, base: Base):
        """Two faults one after the other are the second in the day of the first."""
        first, second = CASES["message late [50]"], CASES["snapshots frozen [pause]"]
        both = compose(first, second)(base.day)
        assert both.deltas.equals(first(base.day).deltas)
        assert both.snapshots.equals(second(base.day).snapshots)

    def test_files_have_the_vendor_s_columns(self, base: Base, tmp_path: Path):
        """What is written has the columns that were read, and a shard for each number."""
        spoilt = CASES["shards overlap [200]"](base.day)
        spoilt.write(tmp_path)
        files = sorted((tmp_path / FOLDERS["deltas"]).rglob("*.parquet"))
        columns = [pl.read_parquet_schema(file) for file in files]
        expected = {k: v for k, v in base.day.deltas.schema.items() if k not in OURS}
        assert [expected] * 2 == columns


class TestTruth:
    def test_the_full_book_is_the_reference_s(self, sample_data: Path):
        """After every message of a real day the best bid and ask are the independent book's."""
        exchange, symbol, day = SAMPLE_DAYS[5]
        of_day = RawDay.read(sample_data / "lake", exchange, symbol, day)
        seed = read_table("truth/rest_snapshot", exchange, symbol, day)
        (ours,) = full_book(seed, [of_day.deltas], applies_own_number=True)
        reference = read_table("truth/reference_bbo", exchange, symbol, day)
        numbers = of_day.messages.first("sequence_number")[ours.known]
        columns = ("bid_0_price", "bid_0_size", "ask_0_price", "ask_0_size")
        assert reference["sequence_number"].to_list() == numbers.tolist()
        assert np.array_equal(reference.select(columns).to_numpy(), ours.touch[ours.known])

    def test_the_clean_day_is_right(self, base: Base):
        """Validated like any other, the clean day has no wrong row and nothing new against it."""
        trial = try_fault(base, "none", lambda day: day)
        assert ("available", {}, 0, "as before") == (
            trial.condition,
            trial.found,
            trial.wrong,
            trial.neighbour,
        )
        assert trial.bbo.valid == int(base.clean.bbo.valid.sum())

    def test_a_wrong_book_is_counted(self, base: Base):
        """A fault that nobody flagged would be seen: the truth of other messages is not that of
        these.
        """
        count = base.clean.bbo.touch.shape[0]
        shifted = np.arange(count) - 5
        right, known = base.truth.right_touch(shifted, base.clean.bbo.touch)
        assert 0 < int((known & ~right).sum()) < count


class TestMatching:
    def planted(self, *keys: tuple[int, int]) -> Planted:
        numbers, stamps = (np.array(each, np.int64) for each in zip(*keys, strict=True))
        return Planted(numbers, stamps, np.arange(numbers.size, dtype=np.int64))

    @pytest.mark.parametrize(
        ("rows", "expected"),
        [
            ([(1, 10), (2, 20), (1, 10), (3, 30)], [0, 1, 2, 3]),
            ([(1, 10), (2, 20), (3, 30)], [0, 1, 3]),
            ([(2, 20), (1, 10), (3, 30)], [1, 2, 3]),
            ([(1, 10), (2, 99), (3, 30)], [0, 1, 3]),
            ([(1, 10), (9, 99)], [0, UNPLACED]),
        ],
        ids=["all", "repeat dropped", "first dropped", "stamp replaced", "unknown"],
    )
    def test_rows_are_found_again(self, rows: list[tuple[int, int]], expected: list[int]):
        """A published row is the next planted message of its number and stamp."""
        planted = self.planted((1, 10), (2, 20), (1, 10), (3, 30))
        numbers, stamps = (np.array(each, np.int64) for each in zip(*rows, strict=True))
        assert expected == matched(planted, numbers, stamps).tolist()

    def test_a_spoilt_stamp_keeps_its_message(self, base: Base):
        """Whatever a message's stamp and number become, the harness knows which one it was."""
        assert isinstance(base.day, RawDay)
        clean = Planted.of_rows(base.day.deltas)
        for name in ("receipt stamp wrong [zero]", "number wrong [ten times]"):
            spoilt = Planted.of_rows(CASES[name](base.day).deltas)
            assert clean.message.tolist() == spoilt.message.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", VALIDATED)
def test_a_validated_fault(base: Base, name: str):
    """Nothing wrong is silent or available, nothing crashes, and the neighbour's verdict stays."""
    trial = try_fault(base, name, CASES[name])
    said = (trial.silent, trial.wrongly_available, trial.crashed, trial.neighbour)
    assert (0, False, None, "as before") == said, trial
