from __future__ import annotations

import os
from pathlib import Path

import pytest

from market_pipeline.errors import SettingsError
from market_pipeline.warehouse.layout import Warehouse, make_private_folder, written_whole
from market_pipeline_tests.warehouse.writers import BBO, PERP, publish_run, stage


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


class TestWarehouse:
    def test_paths(self, tmp_path: Path):
        """Every path lies below the data folder, under its documented name."""
        warehouse = Warehouse(tmp_path)

        assert [
            tmp_path / "tables/books/bbo",
            tmp_path / "state/working.duckdb",
            tmp_path / "warehouse/market.duckdb",
            tmp_path / "warehouse/market.duckdb.wal",
            tmp_path / "state/books.bbo.lock",
        ] == [
            warehouse.table_dir(BBO),
            warehouse.working_database,
            warehouse.catalogue,
            warehouse.catalogue_log,
            warehouse.lock_file("books.bbo"),
        ]

    def test_relative(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """A relative data folder is fixed to the folder it was named in."""
        monkeypatch.chdir(tmp_path)
        warehouse = Warehouse(Path("data"))
        monkeypatch.chdir("/")

        assert tmp_path / "data/tables" == warehouse.tables_dir

    @pytest.mark.parametrize("character", ["%", "?", "\\", "\n"])
    def test_unusable_name(self, tmp_path: Path, character: str):
        """A character that a library below would read as something else is refused at once."""
        with pytest.raises(SettingsError, match="data_dir") as caught:
            Warehouse(tmp_path / f"a{character}20b")

        assert repr(character) in caught.value.problems[0]

    def test_prepare_twice(self, tmp_path: Path):
        """Preparing a second time changes nothing, and keeps modes that somebody set."""
        warehouse = Warehouse(tmp_path / "data")
        warehouse.prepare()
        warehouse.warehouse_dir.chmod(0o750)
        warehouse.prepare()

        assert (0o700, 0o750) == (mode(warehouse.tables_dir), mode(warehouse.warehouse_dir))

    def test_modes(self, tmp_path: Path):
        """After a run folders are 0700, files 0600, the catalogue 0400, under an open umask."""
        warehouse = Warehouse(tmp_path / "a/data")
        before = os.umask(0o000)
        try:
            warehouse.prepare()
            publish_run(warehouse, 1)
            publish_run(warehouse, 2)
            stage(warehouse, PERP, 3)
        finally:
            os.umask(before)

        wrong = {
            str(path.relative_to(tmp_path)): oct(mode(path))
            for path in (tmp_path / "a").rglob("*")
            if path != warehouse.catalogue_log and mode(path) != (0o700 if path.is_dir() else 0o600)
        }
        assert {"a/data/warehouse/market.duckdb": "0o400"} == wrong


class TestLinks:
    def test_a_folder_of_ones_own(self, tmp_path: Path):
        """Tables may lie on another disk, where the data folder links to."""
        (tmp_path / "disk").mkdir(mode=0o700)
        (tmp_path / "data").mkdir()
        (tmp_path / "data/tables").symlink_to(tmp_path / "disk")
        Warehouse(tmp_path / "data").prepare()
        assert (tmp_path / "data/state").is_dir()

    def test_a_foreign_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """A link to a folder of another user, or that all may write to, is refused by name."""
        (tmp_path / "data").mkdir()
        (tmp_path / "data/tables").symlink_to(tmp_path / "disk")
        (tmp_path / "disk").mkdir()
        (tmp_path / "disk").chmod(0o777)
        with pytest.raises(SettingsError, match=f"{tmp_path}/data/tables is a link to"):
            Warehouse(tmp_path / "data").prepare()
        (tmp_path / "disk").chmod(0o700)
        if os.getuid() == 0:
            os.chown(tmp_path / "disk", 4711, 4711)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: 4711)
        with pytest.raises(SettingsError, match="other users may write to"):
            make_private_folder(tmp_path / "data/tables")


def test_make_private_folder_over_a_file(tmp_path: Path):
    """A file where a folder should be is an error, not something to replace."""
    (tmp_path / "data").touch()

    with pytest.raises(FileExistsError):
        make_private_folder(tmp_path / "data")


class TestWrittenWhole:
    def test_it_appears_whole(self, tmp_path: Path):
        """Until the block ends the file is as it was; then it is the new one, private."""
        file = tmp_path / "record.json"
        file.write_bytes(b"before")
        with written_whole(file) as writing:
            writing.write(b"after")
            assert b"before" == file.read_bytes()
        assert (b"after", 0o600, [file]) == (file.read_bytes(), mode(file), [*tmp_path.iterdir()])

    def test_nothing_is_left_of_what_failed(self, tmp_path: Path):
        """An error leaves the file as it was, and no other one."""
        file, folder = tmp_path / "record.json", tmp_path / "staging"
        folder.mkdir()
        with pytest.raises(ZeroDivisionError), written_whole(file, folder) as writing:
            writing.write(b"half")
            raise ZeroDivisionError
        assert [folder] == [*tmp_path.iterdir()]
        assert [] == [*folder.iterdir()]
