from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from market_pipeline import __version__
from market_pipeline.errors import LakeFileError, PublishError
from market_pipeline.quality.profile import PROFILES
from market_pipeline.stages.raw.profile import profile_day
from market_pipeline.stages.rebuild.day import rebuild_day
from market_pipeline.stages.rebuild.quarantine import bad_files, keep_copy
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.stages.days import (
    BTC,
    ETH,
    delta_rows,
    raw_day,
    settings,
    write_day,
)

FOLDER = Path("book_delta_v2/exchange=BINANCE/symbol=BTC-USDT/dt=2024-08-08")


def truncated(lake: Path, **written) -> Path:
    """The day of BTC, whose last delta file lost its end."""
    *_, file = write_day(lake, BTC, **written)
    file.write_bytes(file.read_bytes()[:-8])
    return file


def with_a_negative_size(lake: Path, row: int, **written) -> Path:
    rows = delta_rows()
    sizes = rows["size"].to_pylist()
    sizes[row] = -1.0
    rows = rows.set_column(rows.column_names.index("size"), "size", pa.array(sizes))
    (file,) = write_day(lake, BTC, deltas=rows, **written)
    return file


def digest(folder: Path) -> dict[str, tuple[str, int, int]]:
    """What lies below a folder: bytes, time and mode of each file and folder."""
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.lstat().st_mtime_ns,
            path.lstat().st_mode,
        )
        for path in sorted(folder.rglob("*"))
    }


def copies(warehouse: Warehouse) -> list[Path]:
    return sorted(path for path in warehouse.quarantine_dir.rglob("*") if path.is_file())


class TestRebuiltDay:
    def test_a_damaged_file_is_copied_with_its_reason(
        self, lake: Path, folder: Path, warehouse: Warehouse
    ):
        """The copy lies below the file's own folder, whole, with the error's parts beside it."""
        file = truncated(lake)
        content = file.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        before = digest(lake)
        for path in lake.rglob("*"):
            path.chmod(0o500 if path.is_dir() else 0o400)
        day = rebuild_day(raw_day(lake, BTC), [BTC], settings(folder), warehouse)
        for path in lake.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        copy = warehouse.quarantine_dir / FOLDER / f"{sha256[:16]}-1.snappy.parquet"
        reason = copy.with_name(f"{copy.name}.reason.json")
        told = json.loads(reason.read_text())

        assert [copy, reason] == copies(warehouse)
        assert content == copy.read_bytes()
        assert {
            "file": (FOLDER / "1.snappy.parquet").as_posix(),
            "sha256": sha256,
            "bytes": len(content),
            "error": "LakeFileError",
            "row": None,
            "column": None,
            "expected": "a complete Parquet file",
            "code_version": __version__,
        }.items() <= told.items()
        assert day.records[0].failure == (
            f"{told['text']} A copy of {told['file']} is kept as {copy}."
        )
        assert {0o600} == {path.stat().st_mode & 0o777 for path in copies(warehouse)}
        assert {0o700} == {
            path.stat().st_mode & 0o777
            for path in [warehouse.quarantine_dir, *warehouse.quarantine_dir.rglob("*")]
            if path.is_dir()
        }
        assert [(name, *found[:2]) for name, found in before.items()] == [
            (name, *found[:2]) for name, found in digest(lake).items()
        ]

    def test_again_changes_nothing(self, lake: Path, folder: Path, warehouse: Warehouse):
        """The same bad file a second time is neither copied nor told differently."""
        truncated(lake)
        one = rebuild_day(raw_day(lake, BTC), [BTC], settings(folder), warehouse)
        before = digest(warehouse.quarantine_dir)
        two = rebuild_day(raw_day(lake, BTC), [BTC], settings(folder), warehouse)

        assert one.records == two.records
        assert before == digest(warehouse.quarantine_dir)

    def test_other_bytes_are_another_copy(self, lake: Path, folder: Path, warehouse: Warehouse):
        """A file that comes again and is bad again lies beside the first copy."""
        file = truncated(lake)
        rebuild_day(raw_day(lake, BTC), [BTC], settings(folder), warehouse)
        file.write_bytes(b"worse")
        rebuild_day(raw_day(lake, BTC), [BTC], settings(folder), warehouse)

        assert 4 == len(copies(warehouse))

    def test_a_value_is_located(self, lake: Path, folder: Path, warehouse: Warehouse):
        """A file that breaks in the middle of the rebuild is copied with row, column and value."""
        with_a_negative_size(lake, 1_234)
        rebuild_day(raw_day(lake, BTC), [BTC], settings(folder), warehouse)
        _, reason = copies(warehouse)

        assert ("DomainError", 1_234, "size", "-1.0") == tuple(
            json.loads(reason.read_text())[name] for name in ("error", "row", "column", "found")
        )

    def test_only_the_bad_shard(self, lake: Path, folder: Path, warehouse: Warehouse):
        """Of several shards, and several instruments, only the file that is bad is copied."""
        truncated(lake, shards=3)
        write_day(lake, ETH)
        day = rebuild_day(raw_day(lake, BTC, ETH), [BTC, ETH], settings(folder), warehouse)

        assert ["3.snappy.parquet", "3.snappy.parquet.reason.json"] == [
            path.name[17:] for path in copies(warehouse)
        ]
        assert ["quarantined", "rebuilt"] == [record.outcome for record in day.records]

    @pytest.mark.parametrize("make", [truncated, lambda lake: with_a_negative_size(lake, 77)])
    def test_of_a_day_from_snapshots(self, lake: Path, folder: Path, warehouse: Warehouse, make):
        """Deltas for whose sake a day is published from snapshots are copied, and that is told."""
        make(lake)
        raw = raw_day(lake, BTC)
        raw = replace(raw, profiles=PROFILES.frame(profile_day(raw, [BTC])))
        said: list[str] = []
        day = rebuild_day(raw, [BTC], settings(folder), warehouse, said.append)
        copy, _ = copies(warehouse)

        assert ("rebuilt", None) == (day.records[0].outcome, day.records[0].failure)
        assert f"is kept as {copy}." in said[0]

    def test_what_is_not_there_is_not_copied(self, lake: Path, folder: Path, warehouse: Warehouse):
        """A day without files, and a file that changed since it was registered, leave no copy."""
        file = truncated(lake)
        raw = raw_day(lake, BTC, ETH)
        file.write_bytes(b"still coming")
        day = rebuild_day(raw, [BTC, ETH], settings(folder), warehouse)

        assert ["quarantined", "no_data"] == [record.outcome for record in day.records]
        assert [] == copies(warehouse)


class TestNoRoom:
    def test_too_little_is_left(self, lake: Path, warehouse: Warehouse, monkeypatch):
        """Without room for the copy nothing is written, and the error says how much is needed."""
        file = truncated(lake)
        (bad,) = bad_files(raw_day(lake, BTC), BTC, None, strategy="none")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
        with pytest.raises(PublishError, match="could not be copied to quarantine") as raised:
            keep_copy(warehouse, bad)

        assert os.strerror(errno.ENOSPC) == raised.value.found
        assert str(file) == raised.value.file
        assert f"{bad.bytes} bytes" in (raised.value.expected or "")
        assert ([], []) == (copies(warehouse), list(warehouse.staging_dir.iterdir()))

    @pytest.mark.parametrize("failing", ["fsync", "rename"])
    def test_the_disk_fills_up_meanwhile(
        self, lake: Path, warehouse: Warehouse, monkeypatch, failing: str
    ):
        """A disk that fills up while the copy is written leaves nothing half-written."""
        truncated(lake)
        (bad,) = bad_files(raw_day(lake, BTC), BTC, None, strategy="none")

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(*((os, "fsync", full) if failing == "fsync" else (Path, "rename", full)))
            with pytest.raises(PublishError):
                keep_copy(warehouse, bad)

        assert ([], []) == (copies(warehouse), list(warehouse.staging_dir.iterdir()))
        assert keep_copy(warehouse, bad).is_file()

    def test_it_is_no_fault_of_the_data(
        self, lake: Path, folder: Path, warehouse: Warehouse, monkeypatch
    ):
        """A copy that cannot be made fails the step: the day is not recorded as if it were kept."""
        truncated(lake)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
        with pytest.raises(PublishError):
            rebuild_day(raw_day(lake, BTC), [BTC], settings(folder), warehouse)

        assert [] == copies(warehouse)


def test_other_bytes_than_registered(lake: Path, warehouse: Warehouse):
    """A file whose bytes changed and whose size did not is refused: its name would be a lie."""
    file = truncated(lake)
    (bad,) = bad_files(raw_day(lake, BTC), BTC, None, strategy="none")
    file.write_bytes(bytes(bad.bytes))
    with pytest.raises(LakeFileError, match="changed since it was registered"):
        keep_copy(warehouse, bad)

    assert ([], []) == (copies(warehouse), list(warehouse.staging_dir.iterdir()))
