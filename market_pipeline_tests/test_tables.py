from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from market_pipeline.errors import PublishError
from market_pipeline.tables import TABLES, open_catalogue, with_catalogue

COUNT = f"SELECT count(*) FROM {TABLES['validation_report'].sql_name}"

OPEN_FOR_WRITING = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""

RUN = """
import sys
from datetime import date
from pathlib import Path
from market_pipeline.quality.row import VALIDATION_REPORT
from market_pipeline.tables import run_alive
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.working import replace_rows
from market_pipeline_tests.quality.factory import DAY, a_row
warehouse = Warehouse(Path(sys.argv[1]))
with run_alive(warehouse):
    frame = VALIDATION_REPORT.frame([a_row().as_record()])
    replace_rows(warehouse, VALIDATION_REPORT, DAY, None, frame)
    print("published", flush=True)
    sys.stdin.read()
"""


class TestOpenCatalogue:
    def test_what_a_killed_run_published(self, tmp_path: Path):
        """It is not shown while the run is alive, which shows it all at once, but to the next."""
        with_catalogue(tmp_path)
        with subprocess.Popen(
            [sys.executable, "-c", RUN, tmp_path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as run:
            assert run.stdout is not None
            assert "published\n" == run.stdout.readline()
            with open_catalogue(tmp_path) as connection:
                during = connection.execute(COUNT).fetchall()
            run.kill()
            run.communicate()
        with open_catalogue(tmp_path) as connection:
            after = connection.execute(COUNT).fetchall()

        assert ([(0,)], [(1,)]) == (during, after)

    def test_what_is_current_stays(self, tmp_path: Path):
        """A catalogue that shows what is published is opened, not built anew."""
        warehouse = with_catalogue(tmp_path)
        before = warehouse.catalogue.stat().st_mtime_ns
        open_catalogue(tmp_path).close()

        assert before == warehouse.catalogue.stat().st_mtime_ns

    def test_somebody_has_it_open_for_writing(self, tmp_path: Path):
        """A reader makes a catalogue that nobody has open instead of waiting for the writer."""
        command = [sys.executable, "-c", OPEN_FOR_WRITING, with_catalogue(tmp_path).catalogue]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as shell:
            assert shell.stdout is not None
            assert "open\n" == shell.stdout.readline()
            with open_catalogue(tmp_path) as connection:
                found = connection.execute(COUNT).fetchall()
            shell.communicate()

        assert [(0,)] == found

    def test_somebody_wrote_into_it(self, tmp_path: Path):
        """What is not as it was published is built anew before anybody reads it."""
        warehouse = with_catalogue(tmp_path)
        with warehouse.catalogue.open("r+b") as file:
            file.write(b"no database")
        with open_catalogue(tmp_path) as connection:
            assert [(0,)] == connection.execute(COUNT).fetchall()
        assert 1 == len(list(warehouse.set_aside_dir.iterdir()))

    def test_where_nothing_can_be_built(self, tmp_path: Path):
        """A reader that cannot make a new one learns what is wrong with the one there is."""
        warehouse = with_catalogue(tmp_path)
        warehouse.catalogue_log.unlink()
        lock = warehouse.lock_file("catalogue")
        lock.unlink()
        lock.symlink_to(tmp_path / "absent" / "lock")

        with pytest.raises(PublishError, match="not as it was published"):
            open_catalogue(tmp_path)
