"""A day goes through its converter once, again if its files changed, and never half."""

from __future__ import annotations

import json
import stat
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings, load_settings
from market_pipeline.errors import MissingDataError, SchemaError
from market_pipeline.sources import raw_writer
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, RawTable
from market_pipeline.sources.tardis_csv import CONVERTER, TardisCsv
from market_pipeline.stages.raw.convert import convert_day, register_local_day
from market_pipeline.stages.raw.objects import RawObjects
from market_pipeline.stages.rebuild.dry_run import dry_run
from market_pipeline.tables import TABLES
from market_pipeline_tests.published_day import MINUTES, publish_day
from market_pipeline_tests.sources.tardis_files import (
    INCREMENTAL,
    path_of,
    write_lines,
)
from market_pipeline_tests.sources.tardis_files import (
    TRADES as TARDIS_TRADES,
)

DAY = date(2024, 8, 8)
T0 = 1_723_075_200_000_000
OF = Instrument.model_validate(
    {"venue": "BINANCE", "symbol": "BTC-USDT", "source": "tardis_csv", "tick": 1, "lot": 1}
)
ASSETS = {
    DELTAS.name: "raw_book_deltas",
    SNAPSHOTS.name: "raw_book_snapshots",
    TRADES.name: "raw_trades",
}


def write_vendor(lake: Path, *, size: object = 2, trade_price: object = 100) -> list[Path]:
    """Two small files of the vendor."""
    head = "binance,BTCUSDT"
    levels = [f"{head},{T0},{T0},true,bid,100,{size}", f"{head},{T0},{T0},true,ask,101,3"]
    levels.append(f"{head},{T0},{T0 + 10},false,bid,100,5")
    files = [
        path_of(lake, "binance", kind, DAY, "BTCUSDT") for kind in (INCREMENTAL, TARDIS_TRADES)
    ]
    write_lines(files[0], INCREMENTAL, levels)
    write_lines(files[1], TARDIS_TRADES, [f"{head},{T0},{T0},1,buy,{trade_price},1"])
    return files


@pytest.fixture
def settings(tmp_path) -> Settings:
    return load_settings(lake_uri=tmp_path / "lake", data_dir=tmp_path / "data", **MINUTES)


def registered(settings: Settings, raw: RawTable = DELTAS) -> pl.DataFrame:
    table = TABLES[ASSETS[raw.name]]
    return table.frame(register_local_day(settings, raw, OF, DAY))


def made(settings: Settings) -> dict[str, bytes]:
    """All that converters made, by path."""
    root = settings.data_dir / "converted"
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*.parquet"))
    }


class TestOnce:
    def test_the_files_are_registered_as_the_vendor_s_own(self, settings):
        """The manifest tells where they lie and what they were made from; they are private."""
        vendor = write_vendor(settings.lake_path)
        rows = {raw.name: registered(settings, raw).row(0, named=True) for raw in (DELTAS, TRADES)}
        row = rows[DELTAS.name]
        file = settings.lake_path / row["path"]
        below = "converted/tardis_csv/book_delta_v2/exchange=BINANCE/symbol=BTC-USDT/dt=2024-08-08"
        assert (settings.data_dir / below / "1.snappy.parquet").samefile(file)
        assert (row["status"], row["rows"], row["shard"]) == ("usable", 3, 1)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert [each.split("  ")[1] for each in row["made_from"]] == [
            each.relative_to(settings.lake_path).as_posix() for each in vendor
        ]
        assert row["converter_notes"] == [] and rows[TRADES.name]["rows"] == 1

    def test_nothing_is_made_twice_of_the_same_bytes(self, settings, monkeypatch):
        """The second time the converter is not asked to convert."""
        write_vendor(settings.lake_path)
        first = registered(settings)
        monkeypatch.setattr(TardisCsv, "convert", lambda *_: pytest.fail("converted again"))
        assert first.equals(registered(settings))

    def test_made_anew_the_bytes_are_the_same(self, settings, tmp_path):
        """What a converter makes follows from the vendor's bytes alone."""
        write_vendor(settings.lake_path)
        registered(settings)
        elsewhere = load_settings(lake_uri=settings.lake_path, data_dir=tmp_path / "other")
        registered(elsewhere)
        assert made(settings) == made(elsewhere) and len(made(settings)) == 3

    @pytest.mark.parametrize("version", ["1", 1.5])
    def test_a_version_of_another_kind(self, settings, monkeypatch, version):
        """A converter of another package may have a text or a fraction for its version."""
        monkeypatch.setattr(TardisCsv, "version", version)
        write_vendor(settings.lake_path)
        first = registered(settings)
        monkeypatch.setattr(TardisCsv, "convert", lambda *_: pytest.fail("converted again"))
        assert first.equals(registered(settings))
        assert first["status"].to_list() == ["usable"]

    @pytest.mark.parametrize(
        "what", ["vendor's file", "version", "shard gone", "shard cut", "record of another format"]
    )
    def test_it_is_made_anew_if(self, settings, monkeypatch, what):
        """The vendor's bytes or the converter are others, or a made file is not as it was."""
        write_vendor(settings.lake_path)
        before = registered(settings)["sha256"][0]
        (shard,) = (settings.data_dir / "converted").rglob("book_delta_v2/**/*.parquet")
        if what == "vendor's file":
            write_vendor(settings.lake_path, size=7)
        elif what == "version":
            monkeypatch.setattr(TardisCsv, "version", 99)
        elif what == "shard gone":
            shard.unlink()
        elif what == "record of another format":
            (record,) = (settings.data_dir / "converted").rglob("made/**/*.json")
            record.write_text(record.read_text().replace('"format": 1', '"format": 0'))
            shard.write_bytes(b"")
        else:
            shard.write_bytes(b"")
        after = registered(settings)
        assert after["status"].to_list() == ["usable"]
        assert (after["sha256"][0] == before) is what.startswith(("shard", "record"))

    def test_a_record_that_a_killed_process_began(self, settings):
        """What is left of it goes when the day is converted again."""
        write_vendor(settings.lake_path)
        registered(settings)
        (record,) = (settings.data_dir / "converted").rglob("*.json")
        record.with_name(f"{record.name}.0a1b.partial").write_bytes(b"{")
        record.unlink()
        registered(settings)

        assert [record.name] == [each.name for each in record.parent.glob("*.json*")]

    def test_gone_files_of_the_vendor_leave_what_was_made(self, settings):
        """Retention at the vendor's side takes nothing away here."""
        files = write_vendor(settings.lake_path)
        before = registered(settings)
        for file in files:
            file.unlink()
        assert before.equals(registered(settings))

    def test_a_day_that_never_was_is_missing(self, settings):
        """The row says which converter has no file of it."""
        settings.lake_path.mkdir()
        (row,) = registered(settings).to_dicts()
        assert (row["status"], row["failure_kind"]) == ("missing", MissingDataError.__name__)
        assert "for the converter tardis_csv" in row["failure"]

    def test_a_lake_behind_a_symbolic_link_has_the_same_paths(self, settings, tmp_path):
        """`..` is counted from what the link leads to."""
        real = tmp_path / "disk" / "far" / "lake"
        write_vendor(real)
        settings.lake_path.symlink_to(real)
        frame = registered(settings)
        files, _ = RawObjects(settings.lake_path, frame).files_of(OF)
        assert files[0].is_relative_to(settings.lake_path)
        assert files[0].resolve().is_relative_to(settings.data_dir.resolve() / "converted")


class TestRefused:
    def test_a_bad_file_sets_the_day_aside_and_is_kept(self, settings):
        """Nothing is made, the file is registered with the error, and a copy is in quarantine."""
        write_vendor(settings.lake_path)
        registered(settings)
        _, bad = write_vendor(settings.lake_path, trade_price="1oo")
        (row,) = registered(settings).to_dicts()
        assert (row["status"], row["failure_kind"]) == ("unusable", SchemaError.__name__)
        assert settings.lake_path / row["path"] == bad and {} == made(settings)

        (validated,) = publish_day(settings, [OF], DAY)

        assert (validated.row.outcome, validated.row.failure_kind) == ("quarantined", "SchemaError")
        folder = settings.data_dir / "quarantine" / "tardis_csv"
        (copy,) = folder.glob("*.csv.gz")
        reason = json.loads((folder / f"{copy.name}.reason.json").read_text())
        assert copy.read_bytes() == bad.read_bytes() and "1oo" in reason["text"]

    def test_a_recovered_file_is_converted(self, settings):
        """The refusal belonged to the bad bytes."""
        write_vendor(settings.lake_path, trade_price="1oo")
        registered(settings)
        write_vendor(settings.lake_path)
        assert ["usable"] == registered(settings)["status"].to_list()

    def test_a_converter_that_fails_by_itself_stops_nobody_else(self, settings, monkeypatch):
        """Any exception is the day's failure, told with its kind."""

        def broken(*_: object) -> None:
            raise ZeroDivisionError("by nothing")

        write_vendor(settings.lake_path)
        monkeypatch.setattr(TardisCsv, "convert", broken)
        (row,) = registered(settings).to_dicts()
        assert row["failure_kind"] == "LakeFileError"
        assert "ZeroDivisionError: by nothing (broken, line" in row["failure"]

    @pytest.mark.parametrize("error", [MemoryError(), OSError(24, "Too many open files")])
    def test_what_the_machine_refuses_is_not_remembered(self, settings, monkeypatch, error):
        """Without memory or descriptors the run ends, and the next one converts the same files."""

        def refused(*_: object) -> None:
            raise error

        write_vendor(settings.lake_path)
        with monkeypatch.context() as patch:
            patch.setattr(TardisCsv, "convert", refused)
            with pytest.raises(type(error)):
                registered(settings)
        assert ["usable"] == registered(settings)["status"].to_list()

    def test_a_full_disk_is_not_the_vendor_s_fault(self, settings, monkeypatch):
        """It is an error of this machine; the day is converted when there is room again."""

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        write_vendor(settings.lake_path)
        with monkeypatch.context() as patch:
            patch.setattr(raw_writer.pq.ParquetWriter, "write_table", full)
            with pytest.raises(OSError, match="No space left"):
                registered(settings)
        assert {} == made(settings)
        assert [] == [path for path in settings.data_dir.rglob("*.partial*")]
        assert ["usable"] == registered(settings)["status"].to_list()


def test_a_dry_run_makes_it_elsewhere(settings):
    """It converts into its temporary folder, and the data folder stays as it was."""
    write_vendor(settings.lake_path)
    (planned,) = dry_run(DAY, [OF], settings)
    assert (planned.record.outcome, planned.record.messages) == ("rebuilt", 2)
    assert not (settings.data_dir / "converted").exists()


def test_a_vendor_s_own_source_has_no_converter(settings):
    """Days in the raw layout are registered as they lie."""
    of = OF.model_copy(update={"source": "crypto_lake"})
    assert convert_day(settings, of, DAY) is None
    assert CONVERTER.find(settings.lake_path, of, DAY) == []


def test_the_published_book_is_that_of_the_files(settings):
    """The seed is the first block of snapshot rows, and the change after it is applied."""
    write_vendor(settings.lake_path)
    (validated,) = publish_day(settings, [OF], DAY)
    assert (validated.row.messages, validated.row.snapshots, validated.row.trades) == (2, 1, 1)
    assert validated.row.seed == "first snapshot, sequence number 1"
    assert np.isclose(validated.row.not_seeded_seconds, 0)
