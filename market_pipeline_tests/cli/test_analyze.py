"""`market-pipeline analyze`: tables and strategies from raw files alone, exit codes and JSON."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from market_pipeline.cli import analyze as module
from market_pipeline.cli import main as script
from market_pipeline.cli.analyze import share_of
from market_pipeline.cli.app import app
from market_pipeline.quality.profile import Profile
from market_pipeline_tests.sources.tardis_files import INCREMENTAL, path_of, write_lines
from market_pipeline_tests.stages.days import BTC, DAY, ETH, START_NS, delta_rows, write_day

TEXT = "instruments:\n" + "".join(
    f"  - {{venue: {each.venue}, symbol: {each.symbol}, source: crypto_lake}}\n"
    for each in (BTC, ETH)
)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake without a file, two instruments, and settings that say so."""
    for name in [name for name in os.environ if name.upper().startswith("PIPELINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "instruments.yaml").write_text(TEXT)
    monkeypatch.setenv("PIPELINE_INSTRUMENTS_FILE", str(tmp_path / "instruments.yaml"))
    monkeypatch.setenv("PIPELINE_LAKE_URI", str(tmp_path / "lake"))
    folder = tmp_path / "lake"
    folder.mkdir()
    return folder


def analyzed(*arguments: str, end: str = f"{DAY}") -> Result:
    days = ("--start-date", f"{DAY}", "--end-date", end)
    return CliRunner().invoke(app, ["analyze", *days, *arguments])


def of(result: Result, instrument: str) -> str:
    """The part of the output that is about an instrument."""
    return result.output.partition(f"{DAY} {instrument}")[2].partition("\n\n")[0]


def spoilt(price: float) -> pa.Table:
    """The plain day with one price replaced."""
    rows = delta_rows()
    prices = rows["price"].to_pylist()
    prices[5] = price
    return rows.set_column(rows.column_names.index("price"), "price", pa.array(prices))


def test_0_every_day_allows_full_deltas(lake: Path):
    """Days that can be rebuilt from all their deltas end with 0; nothing is written."""
    for each in (BTC, ETH):
        write_day(lake, each)
    before = sorted(lake.parent.rglob("*"))
    result = analyzed()

    assert 0 == result.exit_code
    assert "full_deltas: All 5,760 deltas can be applied, in 2,880 messages." in of(result, BTC.id)
    assert result.output.endswith("2 full_deltas, 0 snapshots_only, 0 none\n")
    assert before == sorted(lake.parent.rglob("*"))


def test_without_an_end_it_is_one_day(lake: Path):
    """The first day alone is looked at, as with the same day as the end."""
    for each in (BTC, ETH):
        write_day(lake, each)

    one = CliRunner().invoke(app, ["analyze", "--start-date", f"{DAY}"])
    assert (0, analyzed().output) == (one.exit_code, one.output)


def test_days_of_another_vendor_are_converted(lake: Path):
    """They are converted for the look alone, and a file that is refused is told as unreadable."""
    text = TEXT.replace("crypto_lake", "tardis_csv", 1)
    (lake.parent / "instruments.yaml").write_text(text)
    write_day(lake, ETH)
    path = path_of(lake, "binance", INCREMENTAL, DAY, "BTCUSDT")
    row = f"binance,BTCUSDT,{START_NS // 1_000},{START_NS // 1_000},true,bid,100,1"
    write_lines(path, INCREMENTAL, [row])
    before = sorted(lake.parent.rglob("*"))
    result = analyzed()
    assert "full_deltas: All 1 deltas can be applied, in 1 messages." in of(result, BTC.id)
    assert (0, before) == (result.exit_code, sorted(lake.parent.rglob("*")))

    write_lines(path, INCREMENTAL, [row.replace("100,1", "100,-1")])
    result = analyzed()
    told = of(result, BTC.id).replace("\n", " ")
    assert 1 == result.exit_code
    assert "none: The deltas cannot be read" in told and "amount" in told


def test_1_something_does_not(lake: Path):
    """A bad price is located and leaves the snapshots; an instrument without files leaves none."""
    write_day(lake, BTC, deltas=spoilt(-7.5))
    result = analyzed()
    told = of(result, BTC.id).replace("\n", " ")

    assert 1 == result.exit_code
    assert "0.0174%" in told
    assert "snapshots_only: Negative prices in the deltas: 1, first price -7.5 in" in told
    assert "negative prices: 1 of book_delta_v2, first price -7.5, expected a price above 0" in told
    assert "missing" in of(result, ETH.id)
    assert "none: There is no file of deltas; there is no file of snapshots." in of(result, ETH.id)


def test_1_unreadable(lake: Path):
    """A file that is cut short is told with its error, and does not end the analysis."""
    (file,) = write_day(lake, BTC)
    write_day(lake, ETH)
    file.write_bytes(file.read_bytes()[:100])
    result = analyzed()

    assert 1 == result.exit_code
    assert "unusable" in of(result, BTC.id)
    assert "cannot be read as Parquet" in of(result, BTC.id)
    assert "full_deltas" in of(result, ETH.id)


def test_choice_of_instruments_and_days(lake: Path):
    """Only the chosen instrument is looked at, on each day, both ends included."""
    write_day(lake, BTC)
    one = analyzed("--instrument", BTC.id)
    three = analyzed("--instrument", BTC.id, end="2024-08-10")

    assert (0, 1) == (one.exit_code, three.exit_code)
    assert ETH.id not in one.output
    assert three.output.endswith("1 full_deltas, 0 snapshots_only, 2 none\n")


def test_1_no_instrument_is_listed(lake: Path):
    """Days on which nothing is listed are not days that can all be rebuilt."""
    write_day(lake, BTC)
    (lake.parent / "instruments.yaml").write_text(TEXT.replace("}", ", listed: 2024-08-09}"))
    result = analyzed()

    assert (1, "No instrument is listed on any of these days.\n") == (
        result.exit_code,
        result.output,
    )


def test_json(lake: Path):
    """An object for each instrument and day with its strategy and the rows of its three tables."""
    write_day(lake, BTC)
    result = analyzed("--json")
    btc, eth = json.loads(result.stdout)

    assert 1 == result.exit_code
    assert ("BINANCE", "BTC-USDT", "2024-08-08", "full_deltas") == tuple(
        btc[name] for name in ("exchange", "symbol", "dt", "strategy")
    )
    assert [("book_delta_v2", 5_760), ("book", 1), ("trades", 2_880)] == [
        (table["raw_table"], table["rows"]) for table in btc["tables"]
    ]
    assert ("none", ["missing"] * 3) == (
        eth["strategy"],
        [table["status"] for table in eth["tables"]],
    )


def test_2_no_lake(lake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """A lake that is not there is an error with what to do, and no table of missing days."""
    monkeypatch.setenv("PIPELINE_LAKE_URI", str(lake / "elsewhere"))
    days = ["--start-date", f"{DAY}", "--end-date", f"{DAY}"]
    monkeypatch.setattr(sys, "argv", ["market-pipeline", "analyze", *days])
    with pytest.raises(SystemExit) as ended:
        script.main()
    said = capsys.readouterr()

    assert (2, "") == (ended.value.code, said.out)
    assert said.err.startswith("error: The raw lake is not there")


@pytest.mark.parametrize(
    "arguments",
    [("--end-date", "2024-08-07"), ("--end-date", "8 August"), ("--instrument",), ("--all",)],
)
def test_2_wrong_usage(lake: Path, arguments):
    """Days the wrong way round and unknown options are refused."""
    result = CliRunner().invoke(
        app, ["analyze", "--start-date", f"{DAY}", "--end-date", f"{DAY}", *arguments]
    )

    assert 2 == result.exit_code


def test_terminal(lake: Path, monkeypatch: pytest.MonkeyPatch):
    """A terminal shows a bar with the day under way beside the tables."""
    write_day(lake, BTC)
    monkeypatch.setattr(
        module, "console", lambda: Console(force_terminal=True, width=160, color_system=None)
    )
    result = analyzed("--instrument", BTC.id)

    assert f"{DAY} {BTC.id}" in result.output
    assert "1/1 days" in result.output


@pytest.mark.parametrize(
    ("part", "told"), [(0, "0"), (1, "<0.0001%"), (25_000_000, "25.0000%"), (None, "0")]
)
def test_share(part, told):
    """What is there never looks like nothing."""
    identity = {"exchange": "X", "symbol": "Y", "dt": DAY, "raw_table": "book", "status": "usable"}
    profile = Profile(**identity, zero_prices=part)

    assert told == share_of(profile, ("zero_prices", "zero_sizes"), 100_000_000)


def test_it_is_a_verb():
    """The script has it, with its exit codes in the help."""
    verb = typer.main.get_command(app).commands["analyze"]

    assert "Exit code 0" in verb.help
