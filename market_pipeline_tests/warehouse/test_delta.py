"""The log of a Delta table: its checkpoints, and what a process keeps of it."""

from __future__ import annotations

import errno
from datetime import timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from market_pipeline.errors import PublishError
from market_pipeline.warehouse import delta
from market_pipeline.warehouse import publish as publishing
from market_pipeline.warehouse.delta import delta_table
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.publish import publish
from market_pipeline.warehouse.read import current_files, scan
from market_pipeline_tests.warehouse.writers import BBO, DAY, PERP, runs, stage


def test_log_of_many_commits(warehouse: Warehouse):
    """Each tenth commit has a checkpoint of its mode, after which reading and columns go on."""
    warehouse.prepare()
    days = [DAY + timedelta(days=number) for number in range(12)]
    for run, day in enumerate(days, 1):
        publish(warehouse, BBO, day, [stage(warehouse, PERP, run, day)])
        assert 1 == len(current_files(warehouse, BBO, day))
    log = warehouse.table_dir(BBO) / "_delta_log"
    (checkpoint,) = log.glob("*.checkpoint.parquet")

    assert f"{10:020}" == checkpoint.name.partition(".")[0]
    assert len({path.stat().st_mode for path in log.iterdir()}) == 1
    assert {("BINANCE_FUTURES", f"{day}"): n for n, day in enumerate(days, 1)} == runs(warehouse)


def test_a_damaged_checkpoint(warehouse: Warehouse):
    """A log that cannot be read is named, with what to do, after which all days are there."""
    for run in range(1, 12):
        day = DAY + timedelta(days=run)
        publish(warehouse, BBO, day, [stage(warehouse, PERP, run, day)])
    log = warehouse.table_dir(BBO) / "_delta_log"
    (checkpoint,) = log.glob("*.checkpoint.parquet")
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(PublishError, match=r"checkpoint\.parquet and _last_checkpoint") as caught:
        delta_table(warehouse, BBO)
    assert str(log) == caught.value.file
    checkpoint.unlink()
    (log / "_last_checkpoint").unlink()

    assert 11 == scan(warehouse, BBO).select("dt").unique().collect().height


def test_log_of_many_files(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch):
    """The more files a table has, the rarer are checkpoints, each of which names them all."""
    monkeypatch.setattr(publishing, "_FILES_A_CHECKPOINT", 15)
    for run in range(1, 41):
        day = DAY + timedelta(days=run)
        publish(warehouse, BBO, day, [stage(warehouse, PERP, run, day)])
    log = warehouse.table_dir(BBO) / "_delta_log"

    made = sorted(int(path.name[:20]) for path in log.glob("*.checkpoint.parquet"))
    assert [10, 20, 40] == made


def test_no_space_for_a_checkpoint(
    warehouse: Warehouse,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    """What is committed is published, though there was no space to make opening it quicker."""
    monkeypatch.setattr(publishing, "_COMMITS_A_CHECKPOINT", 2)
    publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 1)])
    with monkeypatch.context() as full:
        full.setattr(DeltaTable, "create_checkpoint", _no_space)
        assert 2 == publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 2)])

    assert "No space left on device" in caplog.text
    assert {("BINANCE_FUTURES", "2024-08-08"): 2} == runs(warehouse)


def test_a_checkpoint_is_flushed(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch):
    """A checkpoint's bytes are flushed before its name: one without them shuts the table."""
    monkeypatch.setattr(publishing, "_COMMITS_A_CHECKPOINT", 2)
    publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 1)])
    flushed: list[str] = []
    monkeypatch.setattr("market_pipeline.warehouse.delta.sync", lambda at: flushed.append(at.name))
    publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 2)])

    assert [f"{2:020}.json", f"{2:020}.checkpoint.parquet", "_delta_log"] == flushed


def test_what_is_kept_of_a_log(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch):
    """A thread that publishes puts nothing older in place of what another one is reading."""

    class Guarded(dict[Path, object]):
        def __setitem__(self, folder: Path, known: object) -> None:
            assert delta._opening.locked()
            super().__setitem__(folder, known)

    monkeypatch.setattr(delta, "_opened", known := Guarded())
    for run in (1, 2):
        publish(warehouse, BBO, DAY, [stage(warehouse, PERP, run)])
    assert [warehouse.table_dir(BBO)] == [*known]


def test_after_a_failed_commit(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch):
    """What the Delta library holds of a table after an error is not used again."""
    publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 1)])
    with monkeypatch.context() as full:
        full.setattr(DeltaTable, "create_write_transaction", _no_space)
        with pytest.raises(OSError, match="No space"):
            publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 2)])

    assert {("BINANCE_FUTURES", "2024-08-08"): 1} == runs(warehouse)
    publish(warehouse, BBO, DAY, [stage(warehouse, PERP, 3)])
    assert {("BINANCE_FUTURES", "2024-08-08"): 3} == runs(warehouse)


def _no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
