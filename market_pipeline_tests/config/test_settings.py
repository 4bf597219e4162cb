from __future__ import annotations

import os
import re
from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from market_pipeline.config.settings import (
    CREDENTIAL_VARIABLES,
    ENV_PREFIX,
    FIELDS,
    Settings,
    load_settings,
    usable_settings,
)
from market_pipeline.config.store_address import PRESETS, StoreAddress
from market_pipeline.errors import SettingsError
from market_pipeline_tests.conftest import REPOSITORY


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty current folder and an environment without any of our variables."""
    for name in list(os.environ):
        if name.upper().startswith(ENV_PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems_of(**overrides):
    """List the problems of settings that are refused."""
    with pytest.raises(SettingsError) as caught:
        load_settings(**overrides)
    return caught.value.problems


class TestPrecedence:
    def test_default(self, folder):
        """Without any source the defaults hold, with paths below the current folder."""
        settings = load_settings()
        assert (folder / "data", folder / "data" / "lake") == (
            settings.data_dir,
            settings.lake_path,
        )
        assert folder / "instruments.yaml" == settings.instruments_file
        assert (date(2024, 1, 1), 100, 300) == (
            settings.start_date,
            settings.depth_interval_ms,
            settings.checkpoint_seconds,
        )
        assert (1024, 120.0, 4.0) == (
            settings.memory_budget_mb,
            settings.lock_timeout_seconds,
            settings.vendor_lag_hours,
        )
        assert settings.threads >= 1

    @pytest.mark.parametrize(
        ("sources", "expected"),
        [
            ({"config"}, 1),
            ({"config", "env_file"}, 2),
            ({"config", "env_file", "environment"}, 3),
            ({"config", "env_file", "environment", "argument"}, 4),
            ({"config", "environment"}, 3),
            ({"config", "argument"}, 4),
        ],
    )
    def test_stronger_source_decides(self, folder, monkeypatch, sources, expected):
        """Argument over environment over .env over config.yaml."""
        if "config" in sources:
            (folder / "config.yaml").write_text("threads: 1\n")
        if "env_file" in sources:
            (folder / ".env").write_text("PIPELINE_THREADS=2\n")
        if "environment" in sources:
            monkeypatch.setenv("PIPELINE_THREADS", "3")
        overrides = {"threads": 4} if "argument" in sources else {}
        assert expected == load_settings(**overrides).threads

    def test_sources_add_up(self, folder, monkeypatch):
        """Settings of different sources hold together."""
        (folder / "config.yaml").write_text("threads: 7\nstart_date: 2024-08-01\n")
        (folder / ".env").write_text("# a comment\nexport PIPELINE_DEPTH_INTERVAL_MS='0'\n")
        monkeypatch.setenv("PIPELINE_DATA_DIR", "elsewhere")
        settings = load_settings(vendor_lag_hours=6)
        assert (7, date(2024, 8, 1), 0, folder / "elsewhere", 6.0) == (
            settings.threads,
            settings.start_date,
            settings.depth_interval_ms,
            settings.data_dir,
            settings.vendor_lag_hours,
        )

    @pytest.mark.parametrize("source", ["environment", "env_file", "argument"])
    def test_config_file_elsewhere(self, folder, monkeypatch, source):
        """PIPELINE_CONFIG_FILE, or the argument, names the file that is read as config.yaml."""
        (folder / "config.yaml").write_text("threads: 1\n")
        (folder / "other.yaml").write_text("threads: 5\n")
        if source == "environment":
            monkeypatch.setenv("PIPELINE_CONFIG_FILE", "other.yaml")
        elif source == "env_file":
            (folder / ".env").write_text("PIPELINE_CONFIG_FILE=other.yaml\n")
        overrides = {"config_file": "other.yaml"} if source == "argument" else {}
        assert 5 == load_settings(**overrides).threads

    def test_class_knows_what_it_is_given(self, folder):
        """Settings() itself reads no source, and is as strict about keys."""
        (folder / ".env").write_text("PIPELINE_THREADS=3\n")
        assert (3, 5) == (load_settings().threads, Settings(threads=5).threads)
        with pytest.raises(ValidationError):
            Settings(thread=3)


class TestUnknownKeys:
    def test_environment(self, monkeypatch):
        """An unknown PIPELINE_ variable is refused with the nearest known one."""
        monkeypatch.setenv("PIPELINE_DATADIR", "x")
        monkeypatch.setenv("UNRELATED", "x")
        (problem,) = problems_of()
        assert problem.startswith("environment: PIPELINE_DATADIR is not a known key")
        assert "did you mean PIPELINE_DATA_DIR?" in problem

    def test_env_file(self, folder):
        """An unknown key of .env is refused, with our prefix or without."""
        (folder / ".env").write_text("PIPELINE_THRAEDS=2\nPIPLINE_LAKE_URI=x\n")
        first, second = problems_of()
        assert first.startswith(".env: PIPELINE_THRAEDS") and "PIPELINE_THREADS?" in first
        assert second.startswith(".env: PIPLINE_LAKE_URI") and "PIPELINE_LAKE_URI?" in second

    def test_env_file_with_dagsters_variables(self, folder):
        """Dagster's own variables may stand in .env, because Dagster reads that file too."""
        (folder / ".env").write_text("DAGSTER_HOME=/somewhere\nPIPELINE_THREADS=2\n")
        assert 2 == load_settings().threads

    def test_config_file(self, folder):
        """An unknown key of config.yaml is refused with the nearest known one."""
        (folder / "config.yaml").write_text("lake_url: x\n")
        (problem,) = problems_of()
        assert problem.startswith("config.yaml: lake_url is not a known key")
        assert "did you mean lake_uri?" in problem

    def test_argument(self):
        """An unknown argument is refused; without a near key all are listed."""
        (problem,) = problems_of(zzz=1)
        assert problem.startswith("argument: zzz is not a known key (known keys: alert_a")

    def test_config_file_inside_config_file(self, folder):
        """A settings file cannot name another."""
        (folder / "config.yaml").write_text("config_file: other.yaml\n")
        (problem,) = problems_of()
        assert "PIPELINE_CONFIG_FILE in the environment" in problem


class TestProblems:
    def test_all_at_once(self, folder, monkeypatch):
        """One error lists the problems of every source, refused values and unknown keys alike."""
        (folder / "config.yaml").write_text("start_date: 2024-13-01\nunknown_key: 1\n")
        (folder / ".env").write_text("PIPELINE_THREADS=0\nnot a pair\n")
        monkeypatch.setenv("PIPELINE_LAKE_URI", "")
        monkeypatch.setenv("PIPELINE_NOTHING", "1")
        found = problems_of(vendor_lag_hours="soon")
        starts = [re.match(r"[^:]+: [A-Za-z_]+", problem)[0] for problem in found]
        assert [
            "environment: PIPELINE_NOTHING",
            ".env: line",
            "config.yaml: unknown_key",
            "environment: PIPELINE_LAKE_URI",
            "config.yaml: start_date",
            ".env: PIPELINE_THREADS",
            "argument: vendor_lag_hours",
        ] == starts

    def test_text_lists_every_problem(self, monkeypatch):
        """The text of the error holds each problem and what to do."""
        monkeypatch.setenv("PIPELINE_THREADS", "none")
        with pytest.raises(SettingsError) as caught:
            load_settings(checkpoint_seconds=0)
        text = str(caught.value)
        assert all(problem in text for problem in caught.value.problems)
        assert "market-pipeline doctor" in text

    def test_a_data_folder_that_libraries_misread(self, monkeypatch):
        """It is a problem with its source, so that who goes on without it has the default."""
        monkeypatch.setenv("PIPELINE_DATA_DIR", "/srv/100%/data")
        settings, problems = usable_settings()
        (problem,) = problems
        assert (Path("data").absolute(), True) == (
            settings.data_dir,
            "PIPELINE_DATA_DIR" in problem,
        )

    def test_the_rest_is_usable(self, folder, monkeypatch):
        """What is refused or unknown has its default, each is a problem, and the rest holds."""
        monkeypatch.setenv("PIPELINE_TREADS", "4")
        monkeypatch.setenv("PIPELINE_THREADS", "none")
        monkeypatch.setenv("PIPELINE_CAPTURE__REDUNDANCY", "-1")
        monkeypatch.setenv("PIPELINE_LAKE_ENDPOINT_URL", "http://store.example")
        monkeypatch.setenv("PIPELINE_ALERT_INTERVAL_SECONDS", "7")
        settings, problems = usable_settings()
        assert (7, None) == (settings.alert_interval_seconds, settings.lake_endpoint_url)
        assert Settings().capture == settings.capture and settings.threads >= 1
        assert 4 == len(problems) and sorted(problems) == sorted(problems_of())

    def test_value_is_never_shown(self, folder, monkeypatch):
        """A refused value stays out of every text, because it might be a misplaced secret."""
        monkeypatch.setenv("PIPELINE_THREADS", "hunter2")
        monkeypatch.setenv("PIPELINE_START_DATE", "hunter2")
        monkeypatch.setenv("PIPELINE_LAKE_URI", "s3://hunter2@bucket")
        monkeypatch.setenv("PIPELINE_PASSWORD", "hunter2")
        (folder / ".env").write_text("PIPELINE_VENDOR_LAG_HOURS=hunter2\nhunter2 line\n")
        (folder / "config.yaml").write_text("threads: [hunter2\n")
        assert "hunter2" not in "".join(problems_of())

    def test_value_is_never_shown_by_the_class(self):
        """Nor does pydantic's own error show it."""
        with pytest.raises(ValidationError) as caught:
            Settings(threads="hunter2")
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize("name", ["data_dir", "lake_uri", "instruments_file", "config_file"])
    @pytest.mark.parametrize("text", ["", "  "])
    def test_empty_path(self, name, text, monkeypatch):
        """An empty path is refused: it would silently mean the current folder."""
        monkeypatch.setenv(ENV_PREFIX + name.upper(), text)
        (problem,) = problems_of()
        assert f"PIPELINE_{name.upper()}: expected a path but it is empty" in problem

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("threads", 0),
            ("threads", 1.5),
            ("threads", True),
            ("threads", ""),
            ("memory_budget_mb", 0),
            ("depth_interval_ms", -1),
            ("checkpoint_seconds", 0),
            ("lock_timeout_seconds", -0.1),
            ("lock_timeout_seconds", "inf"),
            ("vendor_lag_hours", "nan"),
            ("start_date", "0"),
            ("start_date", 0),
            ("start_date", "2024-02-30"),
            ("start_date", None),
            ("data_dir", 5),
            ("data_dir", None),
            ("lake_uri", 5),
            ("readers_group", "root"),
        ],
    )
    def test_refused_value(self, name, value):
        """A value outside its type or range is one problem that names the key."""
        (problem,) = problems_of(**{name: value})
        assert problem.startswith(f"argument: {name}: ")
        assert Settings.model_fields[name].description in problem

    def test_env_file_that_is_not_text(self, folder):
        """A .env that cannot be decoded is a problem beside the others."""
        (folder / ".env").write_bytes(b"PIPELINE_THREADS=\xff\n")
        first, second = problems_of(threads=0)
        assert first.startswith(".env: cannot be read: ")
        assert second.startswith("argument: threads: ")

    def test_env_file_that_is_a_folder(self, folder):
        """A folder called .env is a problem, not ignored."""
        (folder / ".env").mkdir()
        (problem,) = problems_of()
        assert problem.startswith(".env: cannot be read: ")

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("threads: [1\n", "is not valid YAML: "),
            ("threads: 1\nthreads: 2\n", "the key threads is given twice (line 2, column 1)"),
            ("- threads\n", "expected keys and values"),
            ("1: 2\n", "the key 1 is not text"),
            ("threads: !!python/object/apply:os.getcwd []\n", "is not valid YAML: "),
        ],
    )
    def test_malformed_config_file(self, folder, text, expected):
        """A malformed config.yaml is a problem beside the others, not a traceback."""
        (folder / "config.yaml").write_text(text)
        first, second = problems_of(checkpoint_seconds=0)
        assert first.startswith("config.yaml: ") and expected in first
        assert second.startswith("argument: checkpoint_seconds: ")

    def test_config_file_that_is_missing(self, monkeypatch):
        """A configuration file that is named must exist."""
        monkeypatch.setenv("PIPELINE_CONFIG_FILE", "nowhere.yaml")
        (problem,) = problems_of()
        assert problem.startswith("nowhere.yaml: the file does not exist")

    def test_empty_config_file(self, folder):
        """A config.yaml of comments only sets nothing."""
        (folder / "config.yaml").write_text("# threads: 1\n")
        assert 100 == load_settings().depth_interval_ms


class TestLake:
    def test_relative_folder(self, folder, monkeypatch):
        """A relative lake counts from the folder that was current when it was loaded."""
        settings = load_settings(lake_uri="raw/days")
        monkeypatch.chdir("/")
        assert folder / "raw" / "days" == settings.lake_path

    def test_path_object(self, folder):
        """A Path is taken as its text."""
        assert folder / "raw" == load_settings(lake_uri=folder / "raw").lake_path

    def test_file_uri(self):
        """A file URI is a folder, with its escapes decoded."""
        settings = load_settings(lake_uri="file:///srv/raw%20days")
        assert ("file:///srv/raw%20days", Path("/srv/raw days")) == (
            settings.lake_uri,
            settings.lake_path,
        )

    def test_below_data_dir(self, folder):
        """Without a lake of its own the lake lies in the data folder."""
        assert folder / "here" / "lake" == load_settings(data_dir="here").lake_path

    def test_home_folder(self, folder, monkeypatch):
        """A leading ~ is the home folder."""
        monkeypatch.setenv("HOME", str(folder / "home"))
        settings = load_settings(data_dir="~/market")
        assert folder / "home" / "market" / "lake" == settings.lake_path

    @pytest.mark.parametrize(
        ("uri", "expected"),
        [
            ("s3://key:secret@bucket/lake", "expected `s3://bucket/prefix`"),
            ("s3:bucket", "expected `s3://bucket/prefix`"),
            ("s3a://bucket", "the scheme is `s3a`"),
            ("https://host/lake", "the scheme is `https`"),
            ("file://host/lake", "three slashes"),
        ],
    )
    def test_refused_uri(self, uri, expected):
        """A lake that is neither a folder of this machine nor a store is refused with a reason."""
        (problem,) = problems_of(lake_uri=uri)
        assert expected in problem
        assert "secret" not in problem


class TestStore:
    def test_folder(self):
        """A lake in a folder has no store, whatever else is set for one."""
        assert load_settings(lake_uri="/srv/lake", lake_region="eu-west-1").store_address is None

    def test_uri(self, folder):
        """A store's days are kept in the data folder, and its settings make its address."""
        settings = load_settings(
            lake_uri="s3://bucket/some/lake/",
            lake_anonymous=True,
            lake_endpoint_url="https://store.example:9000/",
            lake_region="eu-west-1",
            lake_ca_bundle="authority.pem",
        )
        expected = StoreAddress(
            "bucket",
            "some/lake",
            anonymous=True,
            endpoint_url="https://store.example:9000",
            region="eu-west-1",
            ca_bundle=folder / "authority.pem",
        )
        assert expected == settings.store_address
        assert folder / "data" / "lake" == settings.lake_path

    def test_preset(self):
        """A preset has its own region and rights; a region that is set goes before it."""
        assert PRESETS["sample"] == load_settings(lake_uri="sample").store_address
        paid = load_settings(lake_uri="crypto-lake", lake_region="us-east-2").store_address
        assert (False, "us-east-2") == (paid.anonymous, paid.region)

    def test_folder_of_a_presets_name(self, folder):
        """A folder that is called like a preset is written as a path."""
        settings = load_settings(lake_uri="./sample")
        assert (None, folder / "sample") == (settings.store_address, settings.lake_path)

    @pytest.mark.parametrize(
        "given",
        [
            {"lake_endpoint_url": "store.example:9000"},
            {"lake_endpoint_url": "https://user:secret@store.example"},
            {"lake_endpoint_url": "https://store.example/?secret"},
            {"lake_region": "secret region"},
            {"lake_requests_per_second": -1},
            {"lake_megabytes_per_second": "nan"},
            {"lake_parallel_downloads": 0},
            {"lake_parallel_downloads": 65},
            {"lake_anonymous": "secret"},
        ],
    )
    def test_refused(self, given):
        """A setting of the store that cannot be is refused without being shown."""
        (problem,) = problems_of(lake_uri="sample", **given)
        assert next(iter(given)) in problem
        assert "secret" not in problem

    @pytest.mark.parametrize("name", ["endpoint_url", "region", "ca_bundle"])
    def test_blank_sets_nothing(self, monkeypatch, name):
        """An empty variable is as good as none."""
        monkeypatch.setenv(f"PIPELINE_LAKE_{name.upper()}", "")
        assert getattr(load_settings(), f"lake_{name}") is None

    @pytest.mark.parametrize("name", CREDENTIAL_VARIABLES)
    def test_credentials_of_env_file(self, folder, name):
        """The store's credentials may stand in `.env` and are none of the settings."""
        (folder / ".env").write_text(f"{name}=very-secret\nPIPELINE_THREADS=1\n")
        settings = load_settings()
        assert 1 == settings.threads
        assert "very-secret" not in f"{settings!r} {settings.model_dump()}"

    def test_credentials_of_config_file(self, folder):
        """In `config.yaml` they are refused like any unknown key, without being shown."""
        (folder / "config.yaml").write_text("aws_secret_access_key: very-secret\n")
        (problem,) = problems_of()
        assert "aws_secret_access_key is not a known key" in problem
        assert "very-secret" not in problem


class TestBarSeconds:
    @pytest.mark.parametrize(
        ("given", "widths"),
        [("60", (60,)), ("1, 60,86400", (1, 60, 86_400)), ([5, 10], (5, 10)), (300, (300,))],
    )
    def test_a_list_of_numbers(self, monkeypatch, folder, given, widths):
        """Numbers with commas in the environment, one or a list in YAML."""
        if isinstance(given, str):
            monkeypatch.setenv("PIPELINE_BAR_SECONDS", given)
        else:
            (folder / "config.yaml").write_text(f"bar_seconds: {given}\n")
        assert widths == load_settings().bar_seconds

    @pytest.mark.parametrize(
        "given", ["", "0", "-1", "7", "60,1", "60,60", "60,90", "1,x", "172800", "1.5", "true"]
    )
    def test_refused(self, given):
        """Widths that do not ascend and divide each other and the day are refused."""
        (problem, *_) = problems_of(bar_seconds=given)
        assert "bar_seconds" in problem


def test_immutable():
    """Loaded settings cannot be changed."""
    with pytest.raises(ValidationError):
        load_settings().threads = 3


class TestDocumentation:
    @pytest.mark.parametrize("name", FIELDS)
    def test_every_setting_has_a_row(self, name):
        """docs/settings.md holds each field with its variable, default and description."""
        computed = {
            "lake_uri": "`lake` inside `data_dir`",
            "threads": "the CPUs this process may",
            "bar_seconds": "| `1,60,300,3600,86400` |",
            "metrics_seconds": "| `1,60` |",
            "capture__sinks": "| none |",
            "capture__streams": "| `depth,trades` |",
        }
        field = FIELDS[name]
        default = "none" if field.default == () else f"`{field.default}`"
        rows = (REPOSITORY / "docs" / "settings.md").read_text().splitlines()
        (row,) = [row for row in rows if row.startswith(f"| `{ENV_PREFIX}{name.upper()}` |")]
        assert computed.get(name, f"| {default} |") in row
        assert field.description in row

    def test_example_env_file_is_complete_and_valid(self, folder):
        """Every variable is in .env.example, and with all of them uncommented it loads."""
        text = (REPOSITORY / ".env.example").read_text()
        settings_lines = re.findall(r"^#(PIPELINE_\w+)=", text, flags=re.MULTILINE)
        assert {ENV_PREFIX + name.upper() for name in FIELDS} == set(settings_lines)
        (folder / "config.yaml").touch()
        (folder / ".env").write_text(re.sub(r"^#PIPELINE_", "PIPELINE_", text, flags=re.MULTILINE))
        threads = load_settings().threads
        (folder / ".env").unlink()
        assert load_settings(threads=threads) == load_settings(
            threads=2, lake_uri=folder / "data" / "lake"
        )
