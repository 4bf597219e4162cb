from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from benchmarks.figures import Figure, rate
from benchmarks.measure import Spread, child_environment, cpu_seconds, run_child
from benchmarks.report import PAGE, print_results, update_page

RESULTS = {
    "taken_on": "2024-08-08",
    "machine": {
        "cpu": "A CPU",
        "cores": 2,
        "memory_gb": 25.3,
        "system": "Linux",
        "load_average": 0.25,
        "python": "3.11",
        "numba": "1",
        "numpy": "2",
        "pyarrow": "3",
        "polars": "4",
        "commit": "abc",
        "uncommitted_changes": False,
    },
    "left_out": ["the real capture: it is not here."],
    "figures": [
        rate("kernel", "best", Spread.of([90.0, 101.25, 130.0]), bar=100.0).as_record(),
        Figure("kernel", "peak", "MB", Spread.of([601]), 600.0, None, False).as_record(),
        rate("lakeapi", "its own", Spread.of([0.75, 0.77])).as_record(),
    ],
}


class TestFigure:
    @pytest.mark.parametrize(
        ("values", "bar", "more_is_better", "met"),
        [
            ([99, 100, 120], 100.0, True, True),
            ([99, 99, 120], 100.0, True, False),
            ([500, 600, 900], 600.0, False, True),
            ([500, 601, 900], 600.0, False, False),
            ([1], None, True, None),
        ],
    )
    def test_is_met_by_its_median(self, values, bar, more_is_better, met):
        """The median is held against the bar, from below or from above."""
        figure = Figure("group", "name", "unit", Spread.of(values), bar, None, more_is_better)
        assert met is figure.met

    def test_record_is_json(self):
        """A record survives JSON as it is."""
        record = RESULTS["figures"][0]
        assert record == json.loads(json.dumps(record))


class TestReport:
    def test_page_gets_the_results_between_its_marks(self, tmp_path):
        """What is between the marks is replaced and the rest stays, however often."""
        page = tmp_path / "page.md"
        page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
        update_page(RESULTS, page)
        once = page.read_text(encoding="utf-8")
        update_page(RESULTS, page)
        assert once == page.read_text(encoding="utf-8")
        assert once.splitlines()[0] == PAGE.read_text(encoding="utf-8").splitlines()[0]
        assert "| best | M rows / CPU s | 101 | 90 to 130 | ≥ 100 | yes |\n" in once
        assert "| peak | MB | 601 |  | ≤ 600 | **no** |\n" in once
        assert "| its own | M rows / CPU s | 0.760 | 0.750 to 0.770 |  |  |\n" in once
        assert "it is not here" in once

    def test_page_without_marks_is_refused(self, tmp_path):
        """A page that has no place for the results is left alone."""
        page = tmp_path / "page.md"
        page.write_text("# Nothing\n", encoding="utf-8")
        with pytest.raises(ValueError, match="marks"):
            update_page(RESULTS, page)
        assert "# Nothing\n" == page.read_text(encoding="utf-8")

    def test_terminal_shows_every_figure(self):
        """Each figure has its line, and what was left out is said."""
        console = Console(record=True, width=140, file=StringIO())
        print_results(RESULTS, console)
        text = console.export_text()
        assert [] == [f["name"] for f in RESULTS["figures"] if f["name"] not in text]
        assert "Left out: the real capture" in text


class TestMeasure:
    def test_cpu_seconds_are_a_mean_of_prepared_runs(self):
        """Each run is prepared, and short ones are repeated."""
        calls = []
        seconds = cpu_seconds(
            lambda: calls.append(sum(range(2_000_000))), lambda: calls.append("p")
        )
        assert seconds > 0
        assert calls[0] == "p"
        assert len(calls) >= 4

    def test_peak_memory_is_not_the_parents(self):
        """A child of a large process does not report the parent's peak as its own."""
        ballast = np.ones(200 << 20, np.uint8)
        code = "from benchmarks.measure import peak_rss_mb; print(peak_rss_mb())"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=child_environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert float(done.stdout) < 150 < ballast.nbytes >> 20

    def test_child_has_no_settings_of_the_caller(self, monkeypatch):
        """PIPELINE_ variables are not handed on."""
        monkeypatch.setenv("PIPELINE_THREADS", "7")
        assert [] == [name for name in child_environment() if name.startswith("PIPELINE_")]

    def test_child_that_fails_says_why(self, tmp_path):
        """The error holds what the child wrote to standard error."""
        with pytest.raises(RuntimeError, match="No module named"):
            run_child("benchmarks.nothing", [], tmp_path)
