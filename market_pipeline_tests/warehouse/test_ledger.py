from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from market_pipeline.warehouse.ledger import GONE, KnownObject, Ledger, digest, read_ledger

ONE = KnownObject("1.snappy.parquet", 1, "s3://b/1.snappy.parquet", "e1", 3, "a" * 64)
TWO = replace(ONE, file="2.v2.snappy.parquet", version=2, etag="e2")


def come(folder: Path, name: str, body: bytes, known: KnownObject) -> None:
    """An object has come and waits."""
    ledger = Ledger(folder)
    ledger.incoming(name).write_bytes(body)
    ledger.has_come(name, known)


def test_what_came_waits(tmp_path: Path):
    """What has come is remembered by the next process, and is no file of the day."""
    come(tmp_path, "1.snappy.parquet", b"one", ONE)
    again = Ledger(tmp_path)

    assert ({"1.snappy.parquet": ONE}, {}) == (again.arrived, again.in_place)
    assert {} == read_ledger(tmp_path)
    assert [] == list(tmp_path.glob("*.parquet"))


def test_put_in_place(tmp_path: Path):
    """All files get their names, what is gone a marker, and nothing waits any more."""
    come(tmp_path, "1.snappy.parquet", b"one", ONE)
    come(tmp_path, "2.snappy.parquet", b"two", TWO)
    gone = replace(ONE, file=f"3.v2{GONE}")
    Ledger(tmp_path).put_in_place(
        {"1.snappy.parquet": ONE, "2.snappy.parquet": TWO, "3.snappy.parquet": gone}
    )

    assert {
        "1.snappy.parquet": b"one",
        "2.v2.snappy.parquet": b"two",
        "3.v2.gone": b"",
    } == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name[0] != "."}
    assert read_ledger(tmp_path) == {
        "1.snappy.parquet": ONE,
        "2.snappy.parquet": TWO,
        "3.snappy.parquet": gone,
    }
    assert {} == Ledger(tmp_path).arrived
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("[!1-9]*")}
    assert {0o600} == modes


@pytest.mark.parametrize("renames", [0, 1])
def test_killed_while_putting_in_place(tmp_path: Path, monkeypatch, renames: int):
    """A placing that was killed after any number of renames is finished by the next process."""
    come(tmp_path, "1.snappy.parquet", b"one", ONE)
    come(tmp_path, "2.snappy.parquet", b"two", TWO)
    rename, left = Path.rename, renames + 1  # the first one is the ledger's

    def dying(path: Path, target: Path) -> Path:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", dying)
        Ledger(tmp_path).put_in_place({"1.snappy.parquet": ONE, "2.snappy.parquet": TWO})
    Ledger(tmp_path).finish()

    assert ["1.snappy.parquet", "2.v2.snappy.parquet"] == sorted(
        path.name for path in tmp_path.glob("[!.]*")
    )
    assert {"1.snappy.parquet", "2.snappy.parquet"} == set(read_ledger(tmp_path))
    assert [] == list(tmp_path.glob("*.incoming"))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"in_place": {"1": {}}}', "\x00"])
def test_unreadable(tmp_path: Path, text: str):
    """A ledger that cannot be read says nothing, and the next entry makes it readable again."""
    (tmp_path / ".objects.json").write_text(text)
    assert {} == read_ledger(tmp_path)
    Ledger(tmp_path).adopt("1.snappy.parquet", ONE)

    assert {"1.snappy.parquet": ONE} == read_ledger(tmp_path)


def test_sweep(tmp_path: Path):
    """Beginnings of objects are removed, and files of the day are not."""
    (tmp_path / "1.snappy.parquet").touch()
    (tmp_path / ".2.snappy.parquet.incoming").touch()
    (tmp_path / ".2.snappy.parquet.incoming.0123.partial").touch()
    Ledger(tmp_path).sweep()

    assert ["1.snappy.parquet"] == [path.name for path in tmp_path.iterdir()]


def test_digest(tmp_path: Path):
    """Both hashes are those of the bytes."""
    (tmp_path / "file").write_bytes(b"abc")

    assert "900150983cd24fb0d6963f7d28e17f72" == digest(tmp_path / "file", "md5")
    assert digest(tmp_path / "file", "sha256").startswith("ba7816bf8f01cfea")
