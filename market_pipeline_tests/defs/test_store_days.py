from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from market_pipeline.config.instruments import load_instruments
from market_pipeline.config.settings import load_settings
from market_pipeline.sources.simulated import simulate
from market_pipeline.store.client import open_store
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.lineage import LINEAGE
from market_pipeline.warehouse.working import read_rows
from market_pipeline_tests.defs.test_real_days import INSTRUMENTS
from market_pipeline_tests.defs.workspace import Finished, Workspace, raw_file
from market_pipeline_tests.published_day import publish_day
from market_pipeline_tests.sources.simulated.days import DAY, instrument
from market_pipeline_tests.store.proxy import FaultyProxy
from market_pipeline_tests.store.servers import ObjectStore

pytestmark = pytest.mark.slow

BUCKET = "days"
REAL_DAY = date(2024, 8, 8)
RAW = ("book_deltas", "book_snapshots", "trades")
# What only a store tells, and texts that name where the lake is.
OF_STORE = ["uri", "etag", "version", "remark", "failure", "delivery_remarks"]
RECORDS = {name for name, table in TABLES.items() if table is LINEAGE}
QUICK = {"PIPELINE_CHECKPOINT_SECONDS": "21600", "PIPELINE_DEPTH_INTERVAL_MS": "60000"}


@pytest.fixture(scope="module")
def proxy(object_store: ObjectStore) -> Iterator[FaultyProxy]:
    """Stands before the store and counts what is asked."""
    with FaultyProxy(object_store.endpoint_url) as made:
        yield made


def of_store(
    root: Path, store: ObjectStore, proxy: FaultyProxy, prefix: str, **more: str
) -> Workspace:
    """A pipeline whose lake is that prefix of the bucket, asked through the proxy."""
    given = store.environment(f"s3://{BUCKET}/{prefix}", proxy.endpoint_url)
    return Workspace(root, root / "no folder", date(2024, 7, 1), more={**given, **more})


def contents(workspace: Workspace, day: date) -> dict[str, object]:
    """What is published of a day, without what only a store tells."""
    small = {name for name, table in TABLES.items() if table.storage != "delta"} - RECORDS
    rows = {
        name: read_rows(workspace.warehouse, TABLES[name], day).drop(OF_STORE, strict=False)
        for name in small
    }
    return {name: frame.write_json() for name, frame in rows.items()} | workspace.published(
        day, TABLES.keys() - small - RECORDS
    )


def backfill(first: str, last: str) -> None:
    """The days from `first` to `last`, each through every stage, with the settings there are."""
    settings = load_settings()
    instruments = load_instruments(settings.instruments_file)
    day = date.fromisoformat(first)
    with open_store(settings) or nullcontext() as store:
        while day <= date.fromisoformat(last):
            publish_day(settings, instruments, day, store)
            day += timedelta(days=1)


@dataclass(frozen=True)
class Real:
    """A real day from the folder, and three times from the store.

    Attributes:
        ended: How the runs ended.
        lines: What each run from the store said while fetching.
        downloads: How often each of these runs asked for each object.
        checks: What the check of delivery said in each.
        bbo: The files of the quotes after each.
        published: What was published by the first of them.
    """

    store: Workspace
    folder: Workspace
    ended: list[Finished]
    lines: list[list[str]]
    downloads: list[Counter[str]]
    checks: list[dg.AssetCheckEvaluation]
    bbo: list[str]
    published: dict[str, object]


@pytest.fixture(scope="module")
def real(
    sample_data: Path, object_store: ObjectStore, proxy: FaultyProxy, tmp_path_factory
) -> Real:
    """The day from both; then again, and after the vendor replaced an object."""
    root = tmp_path_factory.mktemp("store-days")
    lake = sample_data / "lake"
    object_store.put_folder(lake, BUCKET, "real")
    folder = Workspace(root / "folder", lake)
    store = of_store(root / "store", object_store, proxy, "real")
    for each in (folder, store):
        each.configure(*({"source": "crypto_lake", **entry} for entry in INSTRUMENTS))
    of_folder = folder.call(backfill, f"{REAL_DAY}", f"{REAL_DAY}")
    ended: list[Finished] = []
    published: dict[str, object] = {}
    lines, downloads, checks, bbo = [], [], [], []
    for number in range(3):
        if number == 2:
            file = raw_file(lake, "trades", "BTC-USDT", REAL_DAY, "BINANCE")
            other = root / "trades.parquet"
            pl.read_parquet(file, hive_partitioning=False).write_parquet(other, compression="zstd")
            object_store.put(BUCKET, f"real/{file.relative_to(lake)}", other.read_bytes())
        proxy.plan()
        ended.append(store.run_days(REAL_DAY))
        if number == 0:
            published = contents(store, REAL_DAY)
        lines.append([line for line in ended[-1].output.splitlines() if " raw_" in line])
        downloads.append(asked(proxy))
        checks.append(store.last_checks()["delivery"])
        bbo.append(store.published(REAL_DAY, ["book_bbo"])["book_bbo"])
    ended.append(of_folder.finish())
    return Real(store, folder, ended, lines, downloads, checks, bbo, published)


def asked(proxy: FaultyProxy) -> Counter[str]:
    """How often each object was asked for, by its path in the bucket."""
    proxy.settle()
    return Counter(
        re.sub(r"%3D", "=", each.line.split()[1].partition("?")[0]) for each in proxy.downloads()
    )


def test_equal_to_the_folder(real: Real):
    """Whatever is published of a day is the same from the store as from the folder."""
    expected = contents(real.folder, REAL_DAY)

    assert [""] * len(real.ended) == [each.errors for each in real.ended]
    assert [] == [name for name in expected if expected[name] != real.published[name]]


def test_every_object_has_its_row(real: Real, sample_data: Path):
    """The manifest names each object of the day at the store once, as the folder's does."""
    lake = sample_data / "lake"
    uris = {
        f"s3://{BUCKET}/real/{file.relative_to(lake)}"
        for file in lake.glob(f"*/*/*/dt={REAL_DAY}/*.parquet")
    }
    found = real.store.sql("SELECT uri FROM lake.manifest WHERE path IS NOT NULL")["uri"].to_list()
    unchanged = real.store.sql(
        "SELECT path, sha256, bytes, rows, shard FROM lake.manifest WHERE version = 1 ORDER BY path"
    )
    of_folder = real.folder.sql(
        "SELECT path, sha256, bytes, rows, shard FROM lake.manifest "
        "WHERE path IS NOT NULL ORDER BY path"
    )

    assert (9, uris) == (len(found), set(found))
    assert 8 == len(unchanged)
    assert set(unchanged.rows()) < set(of_folder.rows())


def test_a_second_run_fetches_nothing(real: Real):
    """The second run asks for no object, and both say what they did."""
    first, second, _ = real.downloads

    assert {1} == set(first.values())
    assert 9 == len(first)
    assert Counter() == second
    told = [sorted(re.sub(r"\d+\.\d", "x", line) for line in lines) for lines in real.lines[:2]]
    none = [f"2024-08-08 raw_{name}: no objects in x s" for name in ("funding", "open_interest")]
    assert [
        sorted([*(f"2024-08-08 raw_{n}: 3 fetched in x s; x MB, x MB/s" for n in RAW), *none]),
        sorted([*(f"2024-08-08 raw_{n}: 3 unchanged in x s" for n in RAW), *none]),
    ] == told
    assert [True, True] == [said.passed for said in real.checks[:2]]


def test_a_replaced_object(real: Real):
    """It alone is fetched, as version 2; the check warns and names it, and quotes stay."""
    said = real.checks[2]
    (row,) = real.store.sql(
        "SELECT version, path, remark FROM lake.manifest WHERE remark IS NOT NULL"
    ).rows()

    assert [1] == list(real.downloads[2].values())
    assert (2, "1.v2.snappy.parquet") == (row[0], Path(row[1]).name)
    assert "its bytes changed since it was first fetched, this is version 2" in row[2]
    assert (False, dg.AssetCheckSeverity.WARN) == (said.passed, said.severity)
    assert real.bbo[0] == real.bbo[1] == real.bbo[2]
    (place,) = real.store.sql(
        """SELECT file, note FROM quality.findings WHERE "check" = 'delivery'"""
    ).rows()
    assert (row[1], f"{row[2]}.") == place


@pytest.fixture(scope="module")
def simulated(tmp_path_factory, object_store: ObjectStore) -> tuple[Path, list]:
    """Three simulated days of four instruments, in a folder and under `simulated` in the bucket."""
    lake = tmp_path_factory.mktemp("simulated") / "lake"
    markets = [instrument(f"{name}-USD", seed=seed) for seed, name in enumerate("ABCD")]
    simulate(lake, markets, DAY, LAST, messages_per_day=200, snapshot_interval_s=3_600.0)
    object_store.put_folder(lake, BUCKET, "simulated")
    return lake, markets


LAST = DAY + timedelta(days=2)


def test_a_killed_backfill(
    simulated, object_store: ObjectStore, proxy: FaultyProxy, tmp_path: Path
):
    """Killed half-way and started again, no object is fetched twice, and the result is equal."""
    lake, markets = simulated
    undisturbed = Workspace(tmp_path / "undisturbed", lake, more=QUICK)
    killed = of_store(tmp_path / "killed", object_store, proxy, "simulated", **QUICK)
    for each in (undisturbed, killed):
        each.configure(*markets)
    proxy.plan()
    aside = undisturbed.call(backfill, f"{DAY}", f"{LAST}")
    running = killed.call(backfill, f"{DAY}", f"{LAST}")
    running.until(lambda: len(proxy.downloads()) >= 18)
    code = running.kill().exit_code
    before, come = asked(proxy), have_come(killed.data_dir / "lake")
    proxy.plan()
    again = killed.call(backfill, f"{DAY}", f"{LAST}").finish()
    after = asked(proxy)

    assert (-9, "", "") == (code, again.errors, aside.finish().errors)
    assert 12 <= len(come) < 36
    assert set() == come & after.keys()
    assert 36 == len(before.keys() | after.keys())
    assert {1} == set(after.values()) == set(before.values())
    for day in (DAY + timedelta(days=n) for n in range(3)):
        assert contents(undisturbed, day) == contents(killed, day), day


def have_come(lake: Path) -> set[str]:
    """The objects that are local, in place or waiting for it, by their paths in the bucket."""
    found = set()
    for ledger in lake.rglob(".objects.json"):
        known = json.loads(ledger.read_text())
        folder = ledger.parent.relative_to(lake)
        found |= {f"/{BUCKET}/simulated/{folder}/{name}" for name in known["in_place"]}
        found |= {f"/{BUCKET}/simulated/{folder}/{name}" for name in known["arrived"]}
    return found
