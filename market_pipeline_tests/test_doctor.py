from __future__ import annotations

import json
import os
import resource
import shutil
import tempfile
from collections import namedtuple

import pytest

from market_pipeline.config.settings import ENV_PREFIX, load_settings
from market_pipeline.doctor import _environment as environment
from market_pipeline.doctor.finding import Diagnosis, DoctorReport
from market_pipeline.doctor.run import run_doctor
from market_pipeline.tables import refresh_catalogue
from market_pipeline_tests.catalogues import drawn_catalogue
from market_pipeline_tests.conftest import REPOSITORY
from market_pipeline_tests.store.servers import no_credentials

INSTRUMENTS = """
instruments:
  - {venue: BINANCE, symbol: BTC-USDT, source: crypto_lake}
  - {venue: BINANCE, symbol: ETH-USDT, source: crypto_lake}
"""


def add_day(lake, symbol):
    """Put an empty file where a day of BINANCE would be."""
    day = lake / "book_delta_v2" / "exchange=BINANCE" / f"symbol={symbol}" / "dt=2024-08-08"
    day.mkdir(parents=True)
    (day / "1.snappy.parquet").touch()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A current folder in which everything is as it should be."""
    for name in list(os.environ):
        if name.upper().startswith(ENV_PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (home := tmp_path / "home").mkdir()
    shutil.copy(REPOSITORY / "dagster_home" / "dagster.yaml", home)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    (tmp_path / "instruments.yaml").write_text(INSTRUMENTS)
    (tmp_path / "data").mkdir(mode=0o700)
    for symbol in ("BTC-USDT", "ETH-USDT"):
        add_day(tmp_path / "data" / "lake", symbol)
    return tmp_path


@pytest.fixture(autouse=True)
def free_bytes(monkeypatch):
    """A disk with as many free bytes as the test says, at first 100 GB."""
    usage = namedtuple("usage", "total used free")
    free = [100 * 10**9]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, free[0]))
    return free


def finding(name, report=None):
    """Take the one finding of that name."""
    (found,) = [each for each in (report or run_doctor()).findings if each.name == name]
    return found


class TestReport:
    def test_all_well(self):
        """Where everything is as it should be every finding is ok and none asks for anything."""
        report = run_doctor()
        assert {("ok", "")} == {(each.status, each.next_step) for each in report.findings}
        assert report.ok

    def test_names(self):
        """The findings come in a fixed order, `disks` for each of three folders."""
        assert [
            "settings", "python", "dagster", "duckdb", "polars", "deltalake", "numba",
            "open_files", "memory", "dagster_home", "scrubbing", "data_dir", "logs", "free_disk",
            *["disks"] * 3, "instruments", "lake",
        ] == [each.name for each in run_doctor().findings]  # fmt: skip

    def test_warning_is_ok(self):
        """A warning leaves the report ok, an error does not."""
        warn, error = Diagnosis("a", "warn", "x", "y"), Diagnosis("b", "error", "x", "y")
        assert (True, False) == (DoctorReport((warn,)).ok, DoctorReport((warn, error)).ok)

    def test_json(self):
        """The report becomes JSON with every part of every finding."""
        report = DoctorReport((Diagnosis("a", "warn", "x", "y"),))
        expected = {
            "ok": True,
            "findings": [{"name": "a", "status": "warn", "found": "x", "next_step": "y"}],
        }
        assert expected == json.loads(json.dumps(report.to_json()))

    def test_trouble_has_a_next_step(self, folder, monkeypatch):
        """Every finding that is not ok says what to do, and one run lists all of them."""
        shutil.rmtree(folder / "data")
        (folder / "data").touch()
        (folder / "instruments.yaml").unlink()
        monkeypatch.delenv("DAGSTER_HOME")
        report = run_doctor()
        trouble = [each for each in report.findings if each.status != "ok"]
        assert ["dagster_home", "data_dir", "instruments", "lake"] == [e.name for e in trouble]
        assert all(each.next_step for each in trouble)

    def test_changes_nothing(self, folder):
        """The doctor creates and changes no file."""
        shutil.rmtree(folder / "data")
        before = sorted(folder.rglob("*"))
        run_doctor()
        assert before == sorted(folder.rglob("*"))


class TestCatalogue:
    def test_as_published(self, folder):
        """A catalogue that nobody wrote into is fine, and none is no finding."""
        before = {each.name for each in run_doctor().findings}
        drawn_catalogue(folder / "data")
        assert "catalogue" not in before
        assert "ok" == finding("catalogue").status

    def test_written_into(self, folder):
        """What somebody wrote into it is told before it is set aside and for as long as it lies."""
        warehouse = drawn_catalogue(folder / "data")
        with warehouse.catalogue.open("ab") as file:
            file.write(b"more")
        before = finding("catalogue")
        refresh_catalogue(warehouse)
        after = finding("catalogue")
        (kept,) = warehouse.set_aside_dir.iterdir()

        assert ("warn", "warn") == (before.status, after.status)
        assert "is not as it was published" in before.found
        assert str(kept) in after.found
        assert "READ_ONLY" in after.next_step


class TestSettings:
    def test_refused(self, monkeypatch):
        """Refused settings are one error with every problem; what needs none is still checked."""
        monkeypatch.setenv("PIPELINE_THREADS", "0")
        monkeypatch.setenv("PIPELINE_DATADIR", "x")
        report = run_doctor()
        found = finding("settings", report)
        assert "error" == found.status
        assert "PIPELINE_THREADS" in found.found and "PIPELINE_DATA_DIR?" in found.found
        assert "duckdb" in {each.name for each in report.findings}
        assert "lake" not in {each.name for each in report.findings}

    def test_loader_of_the_caller(self, folder):
        """The loader given is the one used."""
        report = run_doctor(lambda: load_settings(data_dir=folder / "other"))
        assert f"{folder / 'other'} does not exist yet" in finding("data_dir", report).found

    def test_loader_that_fails(self):
        """A loader that fails in another way is a finding too."""

        def load():
            raise PermissionError("no current folder")

        assert "PermissionError: no current folder" in finding("settings", run_doctor(load)).found


class TestVersions:
    @pytest.mark.parametrize(
        ("version", "expected"),
        [
            ("1.5.5", "ok"),
            ("1.5.10", "ok"),
            ("1.6.0", "ok"),
            ("1.5.4", "error"),
            ("1.5", "error"),
            ("2.0.0", "error"),
            ("2.0.0.dev12", "error"),
            ("unknown", "error"),
        ],
    )
    def test_duckdb(self, monkeypatch, version, expected):
        """DuckDB has to be >=1.5.5,<2, and the finding says why."""
        monkeypatch.setattr(environment, "version", lambda name: version)
        found = finding("duckdb")
        assert expected == found.status
        assert ("ASOF" in found.found) == (expected == "error")

    @pytest.mark.parametrize(
        ("version", "expected"),
        [("3.10.9", "error"), ("3.11.0", "ok"), ("3.13.9", "ok"), ("3.14.0", "error")],
    )
    def test_python(self, monkeypatch, version, expected):
        """Python has to be one of those the project supports."""
        monkeypatch.setattr(environment.platform, "python_version", lambda: version)
        assert expected == finding("python").status

    def test_not_installed(self, monkeypatch):
        """A package that is not installed is an error."""

        def version(name):
            raise environment.PackageNotFoundError(name)

        monkeypatch.setattr(environment, "version", version)
        assert Diagnosis(
            "polars", "error", "not installed", finding("polars").next_step
        ) == finding("polars")


class TestDagsterHome:
    def test_not_set(self, monkeypatch):
        """Without DAGSTER_HOME the finding warns of what happens to runs."""
        monkeypatch.delenv("DAGSTER_HOME")
        found = finding("dagster_home")
        assert ("warn", True) == (found.status, "temporary folder" in found.found)

    @pytest.mark.parametrize("home", ["home", "/nowhere/at/all"])
    def test_not_usable(self, monkeypatch, home):
        """A relative or missing folder is an error: Dagster refuses to start."""
        monkeypatch.setenv("DAGSTER_HOME", home)
        assert "error" == finding("dagster_home").status

    def test_without_its_file(self, folder):
        """A home without dagster.yaml warns."""
        (folder / "home" / "dagster.yaml").unlink()
        assert "warn" == finding("dagster_home").status


class TestEnvFile:
    @pytest.mark.parametrize(
        ("mode", "expected"), [(0o600, "ok"), (0o400, "ok"), (0o640, "warn"), (0o604, "warn")]
    )
    def test_permissions(self, folder, mode, expected):
        """A .env that others may read warns with the command to repair it."""
        (folder / ".env").touch()
        (folder / ".env").chmod(mode)
        found = finding("env_file")
        assert expected == found.status
        assert (f"chmod 600 {folder / '.env'}" in found.next_step) == (expected == "warn")


class TestDataDir:
    def test_can_be_created(self, folder):
        """A folder that does not exist yet is fine if one above it can be written to."""
        shutil.rmtree(folder / "data")
        found = finding("data_dir")
        assert ("ok", True) == (found.status, "can be created" in found.found)

    @pytest.mark.parametrize("data_dir", ["instruments.yaml", "instruments.yaml/deeper"])
    def test_file(self, folder, data_dir):
        """A path at or below a file is an error."""
        found = finding("data_dir", run_doctor(lambda: load_settings(data_dir=data_dir)))
        assert ("error", True) == (found.status, "PIPELINE_DATA_DIR" in found.next_step)

    def test_not_writable(self, monkeypatch):
        """A folder that cannot be written to is an error with the system's reason."""

        def refuse(dir):
            raise OSError(30, "Read-only file system", str(dir))

        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
        found = finding("data_dir")
        assert ("error", True) == (found.status, "Read-only file system" in found.found)

    @pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
    def test_permissions(self, folder, mode):
        """A folder that others may enter warns with the command to repair it."""
        (folder / "data").chmod(mode)
        found = finding("data_dir")
        assert ("warn", True) == (found.status, f"chmod 700 {folder / 'data'}" in found.next_step)


class TestStore:
    @pytest.fixture(autouse=True)
    def rights(self, monkeypatch, tmp_path):
        """No credentials but those of the test."""
        no_credentials(monkeypatch, tmp_path)

    @staticmethod
    def found(endpoint_url, uri="s3://doctor/lake", **more):
        """What the doctor finds of a lake in that store."""
        given = {"lake_uri": uri, "lake_endpoint_url": endpoint_url, **more}
        return finding("lake", run_doctor(lambda: load_settings(**given)))

    @pytest.fixture
    def keys(self, monkeypatch, object_store):
        """The owner's keys, and a lake with days of one instrument."""
        folder = "lake/book_delta_v2/exchange=BINANCE/symbol=BTC-USDT/dt=2024-08-08"
        object_store.put("doctor", f"{folder}/1.snappy.parquet", b"")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_store.secret_key)

    def test_holds(self, object_store, keys, folder):
        """A store that can be listed says where the credentials come from and whose days it has."""
        (folder / "instruments.yaml").write_text(INSTRUMENTS.replace("ETH-USDT", "XRP-USDT"))
        found = self.found(object_store.endpoint_url)
        assert "warn" == found.status
        assert (
            "s3://doctor/lake can be listed with credentials from the environment and holds days "
            "of 1 of 2 instruments; none of BINANCE:XRP-USDT"
        ) == found.found

    def test_one_listing_for_all(self, faulty, keys):
        """However many instruments of an exchange there are, it is listed once."""
        assert "warn" == self.found(faulty.endpoint_url).status
        faulty.settle()
        assert 1 == len(faulty.requests)

    def test_prefix_is_wrong(self, object_store, keys):
        """A prefix under which nothing lies is a warning that names the setting."""
        found = self.found(object_store.endpoint_url, "s3://doctor/lakes")
        assert ("warn", True) == (found.status, "0 of 2 instruments" in found.found)
        assert "PIPELINE_LAKE_URI" in found.next_step

    def test_public(self, object_store, folder):
        """A public store is listed without credentials."""
        (folder / "instruments.yaml").unlink()
        uri = f"s3://{object_store.public_bucket}"
        found = self.found(object_store.endpoint_url, uri, lake_anonymous=True)
        assert f"{uri} can be listed without credentials; no instruments to look for" == found.found

    def test_refused(self, object_store, keys, monkeypatch):
        """Keys that are refused are an error, and none of them is shown."""
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
        report = run_doctor(
            lambda: load_settings(
                lake_uri="s3://doctor/lake", lake_endpoint_url=object_store.endpoint_url
            )
        )
        found = finding("lake", report)
        assert "error" == found.status
        assert "the store refuses access (403 SignatureDoesNotMatch)" in found.found
        shown = json.dumps(report.to_json())
        assert "another-secret" not in shown and object_store.access_key not in shown

    def test_no_credentials(self, object_store, keys, monkeypatch):
        """Without credentials the finding says where they may stand."""
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        found = self.found(object_store.endpoint_url)
        assert ("error", True) == (found.status, "AWS_ACCESS_KEY_ID" in found.next_step)

    def test_out_of_reach(self, keys):
        """A store that does not answer is an error that names the setting of its address."""
        found = self.found("http://127.0.0.1:9")
        assert ("error", True) == (found.status, "cannot be reached" in found.found)
        assert "PIPELINE_LAKE_ENDPOINT_URL" in found.next_step


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (5 * 10**9, "ok"),
        (5 * 10**9 - 1, "warn"),
        (500 * 10**6, "warn"),
        (500 * 10**6 - 1, "error"),
    ],
)
def test_free_disk(free_bytes, free, expected):
    """Free disk below 5 GB warns, below 500 MB is an error."""
    free_bytes[0] = free
    assert expected == finding("free_disk").status


class TestInstruments:
    def test_count(self):
        """A valid file is ok with its number of instruments."""
        assert finding("instruments").found.endswith("instruments.yaml: 2 instruments")

    def test_missing(self, folder):
        """A missing file is an error that names the example; the lake is still looked at."""
        (folder / "instruments.yaml").unlink()
        report = run_doctor()
        assert "instruments.example.yaml" in finding("instruments", report).next_step
        assert ("error", "ok") == (
            finding("instruments", report).status,
            finding("lake", report).status,
        )

    def test_refused(self, folder):
        """A refused file is an error that lists every problem."""
        (folder / "instruments.yaml").write_text("instruments: []\ndefault: {}\n")
        found = finding("instruments")
        assert ("error", True, True) == (
            found.status,
            "\n  - unknown key default" in found.found,
            "\n  - instruments: expected a list" in found.found,
        )


class TestLake:
    def test_complete(self):
        """A lake with days of every instrument is ok."""
        assert finding("lake").found.endswith("holds days of 2 of 2 instruments")

    def test_converted_files(self, folder):
        """Another vendor's instrument has days if the folder of its source holds a file."""
        text = INSTRUMENTS.replace("crypto_lake", "tardis_csv", 1)
        (folder / "instruments.yaml").write_text(text)
        assert finding("lake").found.endswith(
            "days of 1 of 2 instruments; none of BINANCE:BTC-USDT"
        )
        vendors = folder / "data" / "lake" / "tardis_csv" / "binance"
        vendors.mkdir(parents=True)
        assert "warn" == finding("lake").status
        (vendors / "BTCUSDT.csv.gz").touch()
        assert finding("lake").found.endswith("holds days of 2 of 2 instruments")

    @pytest.mark.parametrize(
        "name", [None, "dt=20240808/1.snappy.parquet", "dt=2024-08-08/x.parquet"]
    )
    def test_some_without_days(self, folder, name):
        """Instruments without a day that a run would take are named in a warning."""
        lake = folder / "data" / "lake"
        shard = next(lake.glob("**/symbol=ETH-USDT/*/*.parquet"))
        shard.unlink()
        if name is not None:
            other = shard.parent.parent / name
            other.parent.mkdir(exist_ok=True)
            other.touch()
        found = finding("lake")
        assert "warn" == found.status
        assert found.found.endswith("days of 1 of 2 instruments; none of BINANCE:ETH-USDT")

    @pytest.mark.parametrize("lake_uri", ["nowhere", "instruments.yaml"])
    def test_no_folder(self, lake_uri):
        """A lake that is not a folder is an error naming its setting."""
        found = finding("lake", run_doctor(lambda: load_settings(lake_uri=lake_uri)))
        assert ("error", True) == (found.status, "PIPELINE_LAKE_URI" in found.next_step)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
    def test_not_readable(self, folder):
        """A folder that may not be read is an error."""
        lake = folder / "data" / "lake"
        lake.chmod(0)
        try:
            assert "error" == finding("lake").status
        finally:
            lake.chmod(0o700)


def test_check_that_fails_is_a_finding(monkeypatch):
    """A fault inside one check is that check's error and hides no other finding."""

    def fail(path):
        raise RuntimeError("out of order")

    monkeypatch.setattr(shutil, "disk_usage", fail)
    report = run_doctor()
    assert "RuntimeError: out of order" in finding("free_disk", report).found
    assert ("error", "ok") == (finding("free_disk", report).status, finding("lake", report).status)


class TestWhatARunRefuses:
    @pytest.mark.parametrize("sign", ["%", "?", "\\"])
    def test_path_that_libraries_misread(self, folder, monkeypatch, sign):
        """A data folder whose path `run` refuses is an error that names the character."""
        monkeypatch.setenv("PIPELINE_DATA_DIR", str(folder / f"a{sign}b"))
        found = finding("settings")
        assert ("error", True) == (found.status, f"holds {sign!r}" in found.found)
        assert "PIPELINE_DATA_DIR" in found.found

    @pytest.mark.parametrize(
        "name", ["tables", "state", "staging", "warehouse", "tables/books/bbo", "audit"]
    )
    def test_a_folder_below(self, folder, name):
        """A folder below the data folder that cannot be written to is an error with its path."""
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        found = finding("data_dir")
        assert "error" == found.status
        assert found.found.startswith(f"{path} cannot be written to")

    def test_working_database(self, folder):
        """A working database that cannot be opened is an error."""
        state = folder / "data" / "state"
        state.mkdir()
        (state / "working.duckdb").write_bytes(b"no database" * 1_000)
        found = finding("working")
        assert ("error", True) == (found.status, "move it away" in found.next_step)

    def test_open_files(self, monkeypatch):
        """A limit of open files that is too low is an error with the number that is needed."""
        monkeypatch.setattr(resource, "getrlimit", lambda of: (64, 64))
        found = finding("open_files")
        assert "error" == found.status
        assert "needed: 128 open files or more; Too many open files; a limit of 64" in found.found
        assert "ulimit -n 4096" in found.next_step


class TestModes:
    def test_one_that_is_open(self, folder):
        """A file that other users may read is named with its mode, and how many there are."""
        warehouse = drawn_catalogue(folder / "data")
        (folder / "home/event_log.db").touch(0o600)
        assert "ok" == finding("modes").status
        (folder / "home/event_log.db").chmod(0o644)
        warehouse.staging_dir.chmod(0o750)
        found = finding("modes")
        assert ("warn", True) == (found.status, found.found.startswith("2 of "))
        assert f"{warehouse.staging_dir} (0750)" in found.found
        assert found.next_step.endswith(f"`chmod -R go= {folder}/data {folder}/home`.")
