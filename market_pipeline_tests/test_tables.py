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


class TestOpenCatalogue:
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
