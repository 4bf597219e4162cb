from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from market_pipeline.config.fidelity import Fidelity
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.quality.fidelity.report import FIDELITY_REPORT
from market_pipeline.sources.simulated import Fault, FaultKind, simulate
from market_pipeline.stages.fidelity.day import FidelityDay, fidelity_day, fidelity_made_of
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.published_day import publish_verdicts
from market_pipeline_tests.quality.sample import SAMPLE_DAYS, sample_root
from market_pipeline_tests.sources.simulated.days import DAY, instrument

NAMES = ("SAME", "LOST", "CROSSED", "GAP", "ALONE")
FAULTS = [
    Fault(kind=FaultKind.LOST_MESSAGES, symbol="LOST", day=DAY, at_s=30_000, duration_s=20_000),
    Fault(kind=FaultKind.CROSSED_MINUTE, symbol="CROSSED", day=DAY, at_s=30_000, duration_s=3_000),
    Fault(kind=FaultKind.SILENCE_GAP, symbol="GAP", day=DAY, at_s=30_000, duration_s=3_600),
]


@dataclass(frozen=True)
class Compared:
    """Days with faults, and where the same days without are published."""

    settings: Settings
    golden: Path
    day: FidelityDay

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.settings.data_dir)


def configured(symbol: str, golden: Path | None, **bounds) -> Instrument:
    address = None if golden is None else f"SIMULATED:{symbol}@{golden}"
    own = instrument(symbol).as_instrument()
    return own.model_copy(update={"fidelity": Fidelity(golden=address, **bounds)})


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """The same market published twice: as it was, and with a fault in three of five instruments."""
    root = tmp_path_factory.mktemp("fidelity")
    small = {"messages_per_day": 8_000, "snapshot_interval_s": 60.0}
    markets = [instrument(each) for each in NAMES]
    settings = []
    for name, faults in (("golden", []), ("faulty", FAULTS)):
        lake = root / name / "lake"
        simulate(lake, markets, DAY, DAY, faults=faults, **small)
        settings.append(
            Settings(data_dir=root / name / "data", lake_uri=str(lake), depth_interval_ms=0)
        )
        own = [each.as_instrument() for each in markets]
        publish_verdicts(settings[-1], own[:-1] if name == "golden" else own, DAY)
    golden, faulty = settings
    instruments = [configured(each, golden.data_dir) for each in NAMES]
    instruments.append(configured("UNPUBLISHED", golden.data_dir))
    instruments.append(configured("SAME", None).model_copy(update={"symbol": "UNCOMPARED"}))
    day = fidelity_day(DAY, instruments, Warehouse(faulty.data_dir))
    return Compared(faulty, golden.data_dir, day)


def beyond(compared: Compared, symbol: str) -> set[str]:
    metrics = compared.day.comparisons[f"SIMULATED:{symbol}"].metrics
    return {each.metric for each in metrics if each.grade == "fail"}


def test_grades(compared: Compared):
    """The day without a fault passes with 0 everywhere, the three others fail."""
    grades = {name[10:]: each.pair.grade for name, each in compared.day.comparisons.items()}
    assert {"SAME": "pass", "LOST": "fail", "CROSSED": "fail", "GAP": "fail"} == grades
    same = compared.day.comparisons["SIMULATED:SAME"]
    assert {0.0} == {each.value for each in same.metrics}
    assert same.pair.blocks > 200


def test_what_each_fault_is_found_by(compared: Compared):
    """Lost messages are missing and leave stale levels, a gap is time without a book."""
    assert {"missing_messages"} <= beyond(compared, "LOST")
    assert {"missing_messages", "unpaired_time"} <= beyond(compared, "GAP")
    assert beyond(compared, "CROSSED")


def test_who_has_no_golden_book_of_the_day_is_not_compared(compared: Compared):
    """It has no row, and why is said; who has no book, or names none, is not even mentioned."""
    (why,) = compared.day.without.values()
    assert ["SIMULATED:ALONE"] == list(compared.day.without)
    assert "has nothing of" in why
    assert frozenset() == compared.day.failed


def test_rows_are_those_of_the_comparisons(compared: Compared):
    """One row a pair, one a figure, each with the instrument and the day."""
    rows, metrics = compared.day.rows, compared.day.metrics
    assert ["SAME", "LOST", "CROSSED", "GAP"] == rows["symbol"].to_list()
    assert {DAY} == {*rows["dt"], *metrics["dt"]}
    assert sum(len(each.metrics) for each in compared.day.comparisons.values()) == metrics.height


def test_a_golden_folder_that_is_gone_concerns_its_instrument_alone(compared: Compared):
    """The error names the folder; the other instrument is compared."""
    gone = compared.golden / "gone"
    instruments = [configured("LOST", gone), configured("SAME", compared.golden)]
    found = fidelity_day(DAY, instruments, compared.warehouse)
    assert ["SIMULATED:SAME"] == list(found.comparisons)
    assert str(gone) in found.without["SIMULATED:LOST"]
    assert {"SIMULATED:LOST"} == found.failed


def test_damaged_files_concern_their_instrument_alone(compared: Compared, tmp_path: Path):
    """A golden file that cannot be read any more is told of, and the other is compared."""
    golden = tmp_path / "golden"
    shutil.copytree(compared.golden, golden, symlinks=True)
    (file,) = (golden / "tables" / "books" / "bbo").rglob("*LOST*/**/*.parquet")
    file.write_bytes(file.read_bytes()[:-100])
    instruments = [configured("LOST", golden), configured("SAME", golden)]
    found = fidelity_day(DAY, instruments, compared.warehouse)
    assert ["SIMULATED:SAME"] == list(found.comparisons)
    assert {"SIMULATED:LOST"} == found.failed


def test_made_of_what_was_compared(compared: Compared):
    """It changes with a bound and with the golden book, and not with anything else."""

    def made_of(*instruments: Instrument):
        empty = FIDELITY_REPORT.empty()
        return fidelity_made_of(DAY, instruments, empty, compared.warehouse)

    key = "SIMULATED:SAME"
    once = made_of(configured("SAME", compared.golden))
    assert once == made_of(configured("SAME", compared.golden), configured("GAP", None))
    assert once[key] != made_of(configured("SAME", compared.golden, mid_rms_ticks=1.0))[key]
    other = Fidelity(golden=f"SIMULATED:LOST@{compared.golden}")
    other_golden = configured("SAME", None).model_copy(update={"fidelity": other})
    assert once[key] != made_of(other_golden)[key]
    assert {} == made_of(configured("SAME", None))


def test_rows_of_who_names_no_golden_book_any_more_are_to_go(compared: Compared):
    """Whoever has published rows is concerned, so that they are replaced by none."""
    made_of = fidelity_made_of(
        DAY, [configured("SAME", None)], compared.day.rows, compared.warehouse
    )
    assert ["SIMULATED:SAME"] == list(made_of)
    assert () == made_of["SIMULATED:SAME"].inputs


REAL = {
    "BINANCE": "spot",
    "BINANCE_FUTURES": "usdm",
    "BINANCE_DELIVERY": "coinm",
}


@pytest.mark.slow
@pytest.mark.parametrize(("exchange", "symbol", "day"), [SAMPLE_DAYS[k] for k in (0, 2, 4, 5)])
def test_a_vendor_s_day_is_the_capture_it_was_made_of(tmp_path: Path, exchange, symbol, day):
    """On the real days no confirmed level of 20 differs from the capture at any message."""
    root = sample_root()
    lake = tmp_path / "captured"
    lake.mkdir()
    (lake / "binance_capture").symlink_to(root / "captures")
    steps = {"venue": exchange, "symbol": symbol}
    golden = Settings(data_dir=tmp_path / "golden", lake_uri=str(lake))
    vendor = Settings(data_dir=tmp_path / "vendor", lake_uri=str(root / "lake"))
    captured = Instrument(source="binance_capture", **steps)
    own = Instrument(
        source="crypto_lake",
        fidelity=Fidelity(golden=f"{captured.id}@{golden.data_dir}"),
        **steps,
    )
    publish_verdicts(golden, (captured,), day)
    publish_verdicts(vendor, (own,), day)
    found = fidelity_day(day, [own], Warehouse(vendor.data_dir)).comparisons[own.id]
    assert ("pass", "number", "exchange", 0, 0) == (
        found.pair.grade,
        found.pair.matched_by,
        found.pair.clock,
        found.pair.only_golden,
        found.pair.only_other,
    )
    assert found.pair.compared > 3_000
    levels = [each for each in found.metrics if each.metric == "level_mismatch"]
    assert (40, 0) == (len(levels), sum(each.differing for each in levels))
    assert {0.0} == {each.value for each in found.metrics if each.grid_ms}
