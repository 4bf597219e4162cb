from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.days import synthetic_day
from benchmarks.kernel import collect
from benchmarks.measure import run_child
from benchmarks.rivals import compare


@pytest.fixture(autouse=True)
def bench_folder(tmp_path, monkeypatch):
    """Everything is written below a folder of the test."""
    monkeypatch.setenv("BENCH_FOLDER", str(tmp_path / "bench"))
    return tmp_path / "bench"


class TestSuite:
    @pytest.mark.slow
    def test_runs_at_a_tiny_size(self, bench_folder):
        """Kernel and end-to-end figures are measured, named, held against bars and written."""
        sizes = ["--kernel-rows", "20000", "--end-to-end-rows", "20000", "--runs", "1"]
        main(["--only", "kernel", "end_to_end", *sizes])
        results = json.loads((bench_folder / "results.json").read_text(encoding="utf-8"))
        figures = results["figures"]
        assert {"kernel, ", "end to e"} == {figure["group"][:8] for figure in figures}
        assert 3 + 4 + 4 == len(figures)
        assert all(figure["spread"]["median"] > 0 for figure in figures)
        assert 2 + 4 + 4 == sum(figure["met"] is not None for figure in figures)
        assert {"cpu", "cores", "python", "numba", "commit"} <= set(results["machine"])

    @pytest.mark.slow
    def test_trades_at_a_tiny_size(self, bench_folder):
        """Trades with books and both kinds of bars are measured, and no file is left."""
        main(["--only", "trades", "--trades", "20000", "--runs", "1"])
        results = json.loads((bench_folder / "results.json").read_text(encoding="utf-8"))
        assert [True] * 6 == [each["spread"]["median"] > 0 for each in results["figures"]]
        widths = sum(86_400 // width for width in (1, 60, 300, 3_600, 86_400))
        expected = [f"{rows:,} rows" for rows in (20_000, widths, widths, widths)]
        assert expected == [each["name"].split(", ")[-1] for each in results["figures"][:4]]
        assert ["results.json"] == [file.name for file in bench_folder.glob("[!.]*")]

    @pytest.mark.slow
    def test_sealing_at_a_tiny_size(self, bench_folder):
        """Sealing and opening are held against their bars, and a rebuild from sealed files runs."""
        sizes = ["--sealed-mb", "2", "--end-to-end-rows", "20000", "--runs", "1"]
        main(["--only", "sealing", *sizes])
        results = json.loads((bench_folder / "results.json").read_text(encoding="utf-8"))
        figures = results["figures"]
        assert [True] * 5 == [each["spread"]["median"] > 0 for each in figures]
        assert [1.2, 1.2, None, None, None] == [each["bar"] for each in figures]
        assert ["days", "results.json"] == sorted(f.name for f in bench_folder.glob("[!.]*"))

    def test_full_is_refused_on_a_full_disk(self, monkeypatch):
        """A day of 100 M rows is not begun where there is no room for it."""
        monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**9}))
        with pytest.raises(SystemExit, match=r"needs 4 GB .* has 1\.0 GB"):
            main(["--full"])

    def test_real_capture_is_left_out_where_it_is_absent(self, tmp_path, monkeypatch):
        """Without the sample data the synthetic day alone is compared, and the table says so."""
        monkeypatch.setenv("MARKET_PIPELINE_SAMPLE_DATA", str(tmp_path))
        monkeypatch.setattr("benchmarks.__main__.rival_python", lambda: "python")
        monkeypatch.setattr("benchmarks.__main__.lakeapi_figures", lambda *_: [])
        results = tmp_path / "results.json"
        main(["--only", "lakeapi", "--kernel-rows", "10000", "--json", str(results)])
        (sentence,) = json.loads(results.read_text(encoding="utf-8"))["left_out"]
        assert "MARKET_PIPELINE_SAMPLE_DATA" in sentence


class TestStart:
    def test_process_has_its_row(self, tmp_path):
        """A fresh process rebuilds a message and says what it took."""
        answer = run_child("benchmarks.start", [], tmp_path)
        assert 0 < answer["call_cpu_s"] < answer["row_cpu_s"]


class TestCompare:
    @pytest.fixture
    def day(self):
        """A short day."""
        return synthetic_day(10_000)

    @pytest.fixture
    def answers(self, day):
        """What lakeapi answers if it agrees with us: floats, and the row after each message."""
        bbo, depth = collect(day.deltas, 0)
        ends = np.flatnonzero(np.diff(day.deltas.sequence_number, append=0)) + 1

        def floats(rows):
            bid = rows.bid_price_ticks / 10, rows.bid_size_lots / 1_000
            ask = rows.ask_price_ticks / 10, rows.ask_size_lots / 1_000
            return np.stack([*bid, *ask], axis=1)

        return {"bests": floats(bbo), "tops": floats(depth), "ends": ends}

    def compared(self, tmp_path, day, task, values, ends):
        np.save(tmp_path / f"{task}.npy", values)
        np.save(tmp_path / f"{task}_ends.npy", ends)
        return compare(tmp_path, task, day, day.deltas, None if task == "bests" else 0)

    @pytest.mark.parametrize("task", ["bests", "tops"])
    def test_equal_results_agree(self, tmp_path, day, answers, task):
        """Equal prices and sizes at equal rows are no mismatch."""
        count = answers["ends"].size
        outcome = self.compared(tmp_path, day, task, answers[task], answers["ends"])
        assert (count, 0) == outcome

    @pytest.mark.parametrize("task", ["bests", "tops"])
    @pytest.mark.parametrize("column", range(4))
    def test_one_different_value_is_one_mismatch(self, tmp_path, day, answers, task, column):
        """A tick or a lot more in one message is found."""
        answers[task][17, column] += 0.1
        outcome = self.compared(tmp_path, day, task, answers[task], answers["ends"])
        assert (answers["ends"].size, 1) == outcome

    def test_message_that_one_side_does_not_see_is_a_mismatch(self, tmp_path, day, answers):
        """Two messages read as one differ."""
        values, ends = np.delete(answers["bests"], 5, 0), np.delete(answers["ends"], 5)
        outcome = self.compared(tmp_path, day, "bests", values, ends)
        assert (answers["ends"].size, 1) == outcome
