from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

from market_pipeline.books import rebuild as driver
from market_pipeline.books.tables import BBO
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES
from market_pipeline.stages.raw.objects import RegisteredDay
from market_pipeline.stages.rebuild import from_deltas as stage
from market_pipeline.stages.rebuild import instrument as instrument_stage
from market_pipeline.stages.rebuild.resume import forget_rebuilds, save_rebuild
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.publish import publish
from market_pipeline.warehouse.read import scan
from market_pipeline_tests.quality.sample import SAMPLE_DAYS
from market_pipeline_tests.stages import days
from market_pipeline_tests.stages.days import (
    BTC,
    DAY,
    instrument,
    raw_day,
    rebuild_instrument,
    settings,
    with_profiles,
    write_day,
)

_PART_ROWS = 1_000
_KEYFRAMES = {"checkpoint_seconds": 3_600}


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch):
    """Parts of a thousand rows, cut at any keyframe, where a day would be one."""
    monkeypatch.setattr(stage, "_PART_ROWS", _PART_ROWS)
    monkeypatch.setattr(driver, "_KEYFRAMES", 1)


class Killed(BaseException):
    """Stands for whatever ends a process: nothing in the package catches it."""


def hashes(files) -> dict[str, list[str]]:
    return {name: [file.sha256 for file in parts] for name, parts in files.items()}


def killed_after(
    saves: int, raw: RegisteredDay, folder: Path, warehouse: Warehouse, of=BTC
) -> None:
    """Rebuilds the day until it has saved that often."""
    left = saves

    def save(*arguments):
        nonlocal left
        save_rebuild(*arguments)
        left -= 1
        if left == 0:
            raise Killed

    with mock.patch.object(stage, "save_rebuild", save), pytest.raises(Killed):
        rebuild_instrument(raw, of, settings(folder, **_KEYFRAMES), warehouse)


def uninterrupted(raw: RegisteredDay, folder: Path, of=BTC):
    """What a rebuild that nobody kills gives, in a warehouse of its own."""
    own = Warehouse(folder / "uninterrupted")
    own.prepare()
    return rebuild_instrument(raw, of, settings(folder, **_KEYFRAMES), own)


class TestGoingOn:
    @pytest.mark.parametrize("saves", [1, 2, 3, 5])
    def test_gives_the_same_bytes(self, lake, folder, warehouse, saves):
        """Killed after any part, the next run resumes there; files and record are the same."""
        write_day(lake, BTC)
        raw = raw_day(lake, BTC)
        expected, expected_record = uninterrupted(raw, folder)
        killed_after(saves, raw, folder, warehouse)
        said: list[str] = []
        files, record = rebuild_instrument(
            raw, BTC, settings(folder, **_KEYFRAMES), warehouse, said.append
        )

        assert hashes(files) == hashes(expected)
        assert record == expected_record
        assert [line.split(": ")[1].split(" ")[:2] for line in said] == [["resumed", "after"]]

    def test_a_finished_day_is_not_rebuilt_again(self, lake, folder, warehouse, monkeypatch):
        """A run killed after an instrument was done and before it was published only publishes."""
        write_day(lake, BTC)
        raw = raw_day(lake, BTC)
        first, _ = rebuild_instrument(raw, BTC, settings(folder, **_KEYFRAMES), warehouse)
        monkeypatch.setattr(stage, "read_deltas", None)
        publish(warehouse, BBO, DAY, first["books.bbo"])
        again, record = rebuild_instrument(raw, BTC, settings(folder, **_KEYFRAMES), warehouse)

        assert hashes(again) == hashes(first)
        assert record["messages"] == days.MESSAGES
        assert publish(warehouse, BBO, DAY, again["books.bbo"]) == 1

    def test_parts_are_read_back_in_the_order_of_the_feed(self, lake, folder, warehouse):
        """A published day of several parts comes back row after row."""
        write_day(lake, BTC)
        files, _ = rebuild_instrument(
            raw_day(lake, BTC), BTC, settings(folder, **_KEYFRAMES), warehouse
        )
        publish(warehouse, BBO, DAY, files["books.bbo"])
        published = scan(warehouse, BBO, DAY).select("sequence_number").collect()

        first = days.FIRST_SEQUENCE
        assert published["sequence_number"].to_list() == list(range(first, first + days.MESSAGES))

    def test_beside_an_instrument_that_fails(self, lake, folder, warehouse):
        """Nothing is parsed as Python, which fails while another thread logs a traceback."""
        write_day(lake, BTC)
        raw = raw_day(lake, BTC)
        expected, _ = uninterrupted(raw, folder)
        killed_after(2, raw, folder, warehouse)
        beside = SystemError("AST constructor recursion depth mismatch")
        with mock.patch("ast.parse", side_effect=beside):
            files, _ = rebuild_instrument(raw, BTC, settings(folder, **_KEYFRAMES), warehouse)

        assert hashes(expected) == hashes(files)

    def test_after_a_real_kill(self, lake, folder, warehouse):
        """A process ended by SIGKILL leaves enough to go on from, and the bytes are the same."""
        write_day(lake, BTC)
        raw = raw_day(lake, BTC)
        expected, _ = uninterrupted(raw, folder)
        script = folder / "victim.py"
        script.write_text(
            "import sys, time\n"
            "from pathlib import Path\n"
            "from market_pipeline.warehouse.layout import Warehouse\n"
            "from market_pipeline.stages.rebuild import from_deltas as stage\n"
            "from market_pipeline_tests.stages.days import BTC, raw_day, settings\n"
            "from market_pipeline_tests.stages.days import rebuild_instrument\n"
            f"stage._PART_ROWS = {_PART_ROWS}\n"
            "from market_pipeline.books import rebuild\n"
            "rebuild._KEYFRAMES = 1\n"
            "save = stage.save_rebuild\n"
            "stage.save_rebuild = lambda *given: (save(*given), time.sleep(0.3))\n"
            "folder = Path(sys.argv[1])\n"
            "rebuild_instrument(raw_day(folder / 'lake', BTC), BTC,\n"
            f"    settings(folder, **{_KEYFRAMES}), Warehouse(folder / 'data'))\n"
        )
        victim = subprocess.Popen([sys.executable, str(script), str(folder)])
        saved = None
        for _ in range(6_000):  # on a busy machine the libraries take long to load
            saved = next(warehouse.staging_dir.glob("*.resume"), None)
            if saved or victim.poll() is not None:
                break
            time.sleep(0.05)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        said: list[str] = []
        files, _ = rebuild_instrument(
            raw, BTC, settings(folder, **_KEYFRAMES), warehouse, said.append
        )

        assert saved is not None
        assert hashes(files) == hashes(expected)
        assert "resumed after" in said[0]


class TestRefused:
    @pytest.fixture
    def interrupted(self, lake, folder, warehouse):
        """A rebuild that was killed after two parts: its raw day and what it saved."""
        write_day(lake, BTC)
        raw = raw_day(lake, BTC)
        killed_after(2, raw, folder, warehouse)
        return raw, next(warehouse.staging_dir.glob("*.resume"))

    @pytest.mark.parametrize(
        ("damage", "told"),
        [
            (lambda body: body[:-1], "is damaged"),
            (lambda body: body[:100] + b"?" + body[101:], "is damaged"),
            (lambda body: b"0" + body[1:], "is of another format"),
            (lambda body: b"", "is of another format"),
        ],
    )
    def test_damaged_or_of_another_format(self, interrupted, folder, warehouse, damage, told):
        """What is not whole or of another format is told and passed over; the day starts over."""
        raw, saved = interrupted
        saved.write_bytes(damage(saved.read_bytes()))
        said: list[str] = []
        files, _ = rebuild_instrument(
            raw, BTC, settings(folder, **_KEYFRAMES), warehouse, said.append
        )
        expected, _ = uninterrupted(raw, folder)

        assert (told in said[0], str(saved) in said[0]) == (True, True)
        assert "the rebuild starts over" in said[0]
        assert hashes(files) == hashes(expected)

    def test_other_code(self, interrupted, folder, warehouse, monkeypatch):
        """After the code changed, nothing of the old code's output is gone on from."""
        raw, _ = interrupted
        monkeypatch.setattr(instrument_stage, "package_digest", lambda: "another")
        said: list[str] = []
        rebuild_instrument(raw, BTC, settings(folder, **_KEYFRAMES), warehouse, said.append)

        assert "made from something else: package" in said[0]

    @pytest.mark.parametrize(
        ("part", "name", "found"),
        [
            ("thresholds", "gap_warn_seconds", "resumed after"),
            ("gap_rule", "silence_floor_seconds", ": parameters"),
        ],
    )
    def test_other_thresholds(self, interrupted, folder, warehouse, part, name, found):
        """A threshold of validation starts nothing over; one of the gap rule does."""
        raw, _ = interrupted
        of = BTC.model_copy(update={part: getattr(BTC, part).model_copy(update={name: 7.0})})
        said: list[str] = []
        rebuild_instrument(raw, of, settings(folder, **_KEYFRAMES), warehouse, said.append)

        assert found in said[0]

    def test_other_options_or_raw_files(self, interrupted, lake, folder, warehouse):
        """Other settings, or raw files with other bytes, start the day over."""
        raw, _ = interrupted
        said: list[str] = []
        sparse = settings(folder, **_KEYFRAMES, depth_interval_ms=1_000)
        rebuild_instrument(raw, BTC, sparse, warehouse, said.append)
        write_day(lake, BTC, shards=3)
        rebuild_instrument(raw_day(lake, BTC), BTC, sparse, warehouse, said.append)

        assert "something else: parameters" in said[0]
        assert "something else: inputs" in said[1]

    def test_another_day_or_instrument(self, interrupted, folder, warehouse):
        """A file moved to another day's or instrument's name does not hold what was made of it."""
        raw, saved = interrupted
        saved.rename(saved.with_name(saved.name.replace(DAY.isoformat(), "2024-08-09")))
        said: list[str] = []
        rebuild_instrument(raw, BTC, settings(folder, **_KEYFRAMES), warehouse, said.append)

        assert said == []

    def test_its_files_are_gone(self, interrupted, folder, warehouse):
        """Where finished parts were swept away, the day starts over."""
        raw, _ = interrupted
        next(warehouse.staging_dir.glob("*.parquet")).unlink()
        said: list[str] = []
        files, _ = rebuild_instrument(
            raw, BTC, settings(folder, **_KEYFRAMES), warehouse, said.append
        )
        expected, _ = uninterrupted(raw, folder)

        assert said == ["BINANCE:BTC-USDT: starts over: 1 finished files are gone"]
        assert hashes(files) == hashes(expected)

    def test_published_ones_are_forgotten(self, interrupted, warehouse):
        """Once a day is published nothing is left to go on from."""
        _, saved = interrupted
        forget_rebuilds(warehouse, [BTC], DAY)

        assert not saved.exists()

    def test_only_the_owner_reads_it(self, interrupted):
        """It holds a book, so it has the mode of every file of ours."""
        _, saved = interrupted

        assert saved.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("exchange", "symbol", "day"), SAMPLE_DAYS[:3])
class TestOnRealDays:
    def test_resumed_is_straight_through(
        self, sample_data, folder, warehouse, monkeypatch, exchange, symbol, day
    ):
        """Killed after every single part of a real day, the bytes are those of one run."""
        monkeypatch.setattr(stage, "_PART_ROWS", 20_000)
        of = instrument(symbol, tick="infer", lot="infer").model_copy(update={"venue": exchange})
        monkeypatch.setattr(days, "DAY", day)
        objects = [
            days.register(sample_data / "lake", raw, of) for raw in (DELTAS, SNAPSHOTS, TRADES)
        ]
        raw = with_profiles(RegisteredDay(day, sample_data / "lake", *objects), of)
        given = settings(folder, checkpoint_seconds=5)
        own = Warehouse(folder / "uninterrupted")
        own.prepare()
        expected, expected_record = rebuild_instrument(raw, of, given, own)

        class KilledOnce:
            def __call__(self, *arguments):
                save_rebuild(*arguments)
                if not arguments[-1].done:
                    raise Killed

        with mock.patch.object(stage, "save_rebuild", KilledOnce()):
            for _ in range(100):
                try:
                    files, record = rebuild_instrument(raw, of, given, warehouse)
                except Killed:
                    continue
                break

        assert len(expected["books.bbo"]) > 2
        assert hashes(files) == hashes(expected)
        assert record == expected_record
