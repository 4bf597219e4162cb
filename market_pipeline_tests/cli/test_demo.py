from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from market_pipeline.cli.app import app
from market_pipeline.cli.demo import demo
from market_pipeline.config.instruments import load_instruments
from market_pipeline.errors import SettingsError


def test_a_home_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A DAGSTER_HOME that is no folder is refused before anything is simulated."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PIPELINE_LAKE_URI", str(tmp_path / "lake"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match="DAGSTER_HOME: expected the absolute path"):
        demo()
    assert [] == list(tmp_path.iterdir())


def simulated(lake: Path, *arguments: str) -> Result:
    """What `market-pipeline simulate` does with few messages."""
    return CliRunner().invoke(app, ["simulate", str(lake), "--messages", "200", *arguments])


RANGE = ["--start-date", "2025-03-01", "--end-date", "2025-03-02"]


class TestSimulate:
    def test_a_range_of_days(self, tmp_path: Path):
        """Days, instruments, faults and the truth are as asked for, and the file names them."""
        lake, file = tmp_path / "lake", tmp_path / "instruments.yaml"
        result = simulated(
            *(lake, *RANGE, "--instruments", "3", "--fault", "missing_day"),
            *("--fault", "bad_value", "--truth", str(tmp_path / "truth")),
            *("--instruments-file", str(file)),
        )
        folders = {path.parent.parent.name for path in lake.rglob("*.parquet")}
        of_truth = list((tmp_path / "truth").rglob("*.parquet"))

        assert 0 == result.exit_code, result.output
        assert "2025-03-01 SIM002-USDT-PERP: missing_day" in result.output
        assert "2025-03-02 SIM003-USDT-PERP: bad_value" in result.output
        assert {f"symbol=SIM00{n}-USDT-PERP" for n in (1, 2, 3)} == folders
        assert (25, 6) == (len(list(lake.rglob("*.parquet"))), len(of_truth))
        assert [f"SIMULATED:SIM00{n}-USDT-PERP" for n in (1, 2, 3)] == [
            each.id for each in load_instruments(file)
        ]
        assert 0o600 == file.stat().st_mode & 0o777

    def test_what_is_there_is_replaced_only_if_asked_for(self, tmp_path: Path):
        """A day or an instruments file that is there is refused, and stays as it was."""
        lake, file = tmp_path / "lake", tmp_path / "instruments.yaml"
        simulated(lake, *RANGE)
        before = {path: path.read_bytes() for path in lake.rglob("*.parquet")}
        again = simulated(lake, *RANGE, "--instruments", "1")
        file.write_text("of a user")
        listed = simulated(lake, *RANGE, "--instruments-file", str(file))
        replaced = simulated(lake, *RANGE, "--instruments-file", str(file), "--overwrite")

        assert "is already there" in str(again.exception)
        assert "is there" in listed.output and 2 == listed.exit_code
        assert 0 == replaced.exit_code
        assert before == {path: path.read_bytes() for path in lake.rglob("*.parquet")}

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (["--fault", "bad_value"], "give the first day too"),
            (["--start-date", "2025-03-02", "--end-date", "2025-03-01"], "is before 2025-03-02"),
            ([*RANGE, "--fault", "flood"], "is none of"),
        ],
    )
    def test_what_cannot_be_simulated(self, tmp_path: Path, arguments, reason):
        """What makes no sense is refused with its option, before anything is written."""
        result = simulated(tmp_path / "lake", *arguments)

        assert 2 == result.exit_code
        assert reason in result.output.replace("\n", " ")
        assert [] == list(tmp_path.iterdir())
