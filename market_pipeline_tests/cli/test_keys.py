"""The verbs for keys and sealed files, as an operator uses them."""

from __future__ import annotations

import base64
import json
import os
import stat

import pytest
from typer.testing import CliRunner

from market_pipeline.cli.app import app
from market_pipeline.errors import SealError, SettingsError
from market_pipeline.security.segments import SealingStream

MASTER = base64.b64encode(bytes(range(32))).decode()
ROWS = bytes(range(256)) * 9_000


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a file of rows, and a master key in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PIPELINE_MASTER_KEY", MASTER)
    (tmp_path / "data").mkdir()
    for name in ("one", "two"):
        (tmp_path / "data" / name).write_bytes(ROWS)
    return tmp_path / "data"


def ran(*arguments):
    done = CliRunner().invoke(app, ["keys", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def files(folder):
    """What lies in the folder beside the audit log."""
    return sorted(path.name for path in folder.iterdir() if path.name != "audit")


def listed():
    return {key["id"]: key for key in json.loads(ran("list", "--json")[1])}


def test_a_life_of_keys(folder):
    """Files are sealed, given to a new key, opened by it, and gone with it."""
    assert 1 == ran("list")[0]
    assert 0 == ran("new", "exports")[0]
    code, out, _ = ran("seal", folder / "one", folder / "two")
    assert (0, "2 files of 2 sealed, 4.6 MB\n") == (code, out)
    assert ROWS == (folder / "one").read_bytes()
    ((old, key),) = listed().items()
    assert ("exports", "active", "aes-kw", 2) == (
        key["purpose"],
        key["state"],
        key["wraps_by"],
        key["files"],
    )
    sealed = (folder / "one.sealed").read_bytes()

    code, out, _ = ran("rotate", "exports")
    assert (0, "2 files of 2") == (code, out.split(": ")[1].split(",")[0])
    assert sealed == (folder / "one.sealed").read_bytes()
    new = next(name for name in listed() if name != old)
    assert {old: ("retired", 0), new: ("active", 2)} == {
        name: (each["state"], each["files"]) for name, each in listed().items()
    }
    assert (0, f"{new}: 2 files of 2, 0 bytes written\n") == ran(
        "rotate", "exports", "--only-files"
    )[:2]
    assert f"{old} opens 0 files" in ran("destroy", old)[1]
    assert 1 == ran("verify", folder / "keys")[0]
    assert 0 == ran("destroy", old, "--yes")[0]

    assert (0, "1 files of 1, 2.3 MB\n") == ran("reseal", folder / "one.sealed")[:2]
    assert sealed != (folder / "one.sealed").read_bytes()
    assert (0, "2 files of 2 verified, 4.6 MB\n") == ran("verify")[:2]
    assert 0 == ran("open", folder / "one.sealed", "--to", folder / "opened")[0]
    assert ROWS == (folder / "opened").read_bytes()
    assert 0o600 == stat.S_IMODE((folder / "opened").stat().st_mode)

    code, out, _ = ran("destroy", new)
    assert (0, 2) == (code, out.count("nothing will open it"))
    assert 0 == ran("verify")[0]
    assert 0 == ran("destroy", new, "--yes")[0]
    code, _, errors = ran("verify")
    assert (1, 2) == (code, errors.count("the file has no slot left"))


def test_a_damaged_file_holds_up_no_other(folder):
    """It is named with the place, and the others are verified, and rotated."""
    ran("new", "exports")
    ran("seal", folder / "one", folder / "two")
    content = bytearray((folder / "one.sealed").read_bytes())
    content[-1] ^= 1
    (folder / "one.sealed").write_bytes(bytes(content))
    (folder / "none.sealed").write_bytes(b"nothing of the kind")
    for verb in (["verify"], ["rotate", "exports"]):
        code, out, errors = ran(*verb)
        assert 1 == code
        assert "none.sealed" in errors
        assert ("2 files of 3" if verb[0] == "rotate" else "1 files of 3") in out


def test_a_host_that_only_seals(folder, tmp_path, monkeypatch):
    """It takes the public half, seals, and cannot open what it sealed; the other host can."""
    _, out, _ = ran("new", "captures", "--pair", "--json")
    public = json.loads(out)["public"]
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path / "host"))
    monkeypatch.delenv("PIPELINE_MASTER_KEY")
    assert 0 == ran("new", "captures", "--public", public)[0]
    assert 0 == ran("seal", folder / "one", "--purpose", "captures")[0]
    with pytest.raises(SealError, match="no master key is set"):
        ran("open", folder / "one.sealed", "--to", tmp_path / "opened")
    assert not (tmp_path / "opened").exists()
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(folder))
    monkeypatch.setenv("PIPELINE_MASTER_KEY", MASTER)
    assert 0 == ran("open", folder / "one.sealed", "--to", tmp_path / "opened")[0]
    assert ROWS == (tmp_path / "opened").read_bytes()


def test_a_crashed_file(folder):
    """What is whole of a file that was cut off is given when it is asked for."""
    ran("new", "exports")
    ran("seal", folder / "one")
    content = (folder / "one.sealed").read_bytes()
    (folder / "one.sealed").write_bytes(content[: 3 << 19])
    with pytest.raises(SealError, match="--crashed"):
        ran("open", folder / "one.sealed", "--to", folder / "opened")
    assert 0 == ran("open", folder / "one.sealed", "--to", folder / "opened", "--crashed")[0]
    assert ROWS[: (1 << 20) - 56] == (folder / "opened").read_bytes()


def test_what_is_destroyed_is_not_seen_in_part(folder, tmp_path):
    """A named folder that is not there, and slots that cannot be read, are errors before it."""
    ran("new", "exports")
    ran("seal", folder / "one")
    (key,) = listed()
    assert 2 == ran("destroy", key, tmp_path / "none", "--yes")[0]
    (folder / "two.sealed.keys").write_bytes(b"[")
    with pytest.raises(SealError, match="cannot be read"):
        ran("destroy", key, "--yes")
    assert "active" == listed()[key]["state"]


def test_what_only_seems_to_be_opened_by_another_key(folder):
    """Slots of a reseal that was killed, and of destroyed keys, do not count."""
    ran("new", "exports")
    ran("seal", folder / "one", folder / "two")
    (old,) = listed()
    ran("new", "exports")
    new = next(name for name in listed() if name != old)
    beside = folder / "one.sealed.keys"
    ((of, slots),) = json.loads(beside.read_text()).items()
    half = {of: slots, "0" * 32: [{"key": new, "kind": "aes-kw", "wrapped": ""}]}
    beside.write_text(json.dumps(half))
    assert 2 == ran("destroy", old)[1].count("nothing will open it")
    assert "nothing will open an earlier file of that name" in ran("destroy", new)[1]
    beside.write_text(json.dumps({of: slots + half["0" * 32]}))
    assert 1 == ran("destroy", old)[1].count("another key opens it")
    (folder / "one.sealed").rename(folder / "aside")
    ran("destroy", new, "--yes")
    assert 2 == ran("destroy", old)[1].count("nothing will open it")
    ran("destroy", old, "--yes")
    assert {of: []} == json.loads(beside.read_text())


def test_what_is_no_file_to_seal(folder):
    """A pipe, a folder, a device and a name in a folder that is not there make nothing."""
    ran("new", "exports")
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    before = files(folder)
    code, _, errors = ran("seal", folder / "pipe", folder / "folder", "/dev/zero")
    assert (1, 3) == (code, errors.count("not a regular file"))
    assert 1 == ran("rotate", "exports", folder / "none" / "one.sealed", "--only-files")[0]
    assert before == files(folder)


def test_a_file_that_grows_while_it_is_sealed(folder, monkeypatch):
    """It is refused and leaves nothing: half a row would be sealed."""
    ran("new", "exports")
    write = SealingStream.write

    def growing(stream, part):
        monkeypatch.undo()
        with (folder / "one").open("ab") as file:
            file.write(b"more")
        return write(stream, part)

    monkeypatch.setattr(SealingStream, "write", growing)
    (folder / "odd\n\udcff").write_bytes(b"rows")
    code, out, errors = ran("seal", folder / "one", folder / "odd\n\udcff")
    assert (1, True) == (code, "changed while it was sealed" in errors)
    assert out.startswith("1 files of 2 sealed")
    assert not list(folder.glob("one.*"))


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        (["new", "trades"], "PURPOSE"),
        (["new", "raw", "--pair", "--public", "raw-1"], "--public"),
        (["new", "raw", "--public", "captures-20261125-0f1e2d3c:AAAA"], "--public"),
        (["open", "one.sealed", "--to", "one"], "--to"),
        (["open", "one.sealed", "--to", "link"], "--to"),
        (["seal", "one", "--purpose", "mine"], "PURPOSE"),
    ],
)
def test_wrong_usage(folder, monkeypatch, wrong, where):
    """It is code 2, and nothing is made."""
    monkeypatch.chdir(folder)
    (folder / "link").symlink_to("nowhere")
    code, _, errors = ran(*wrong)
    assert (2, True) == (code, where in errors)
    assert ["link", "one", "two"] == files(folder)


def test_the_master_key_from_a_file_and_from_a_passphrase(folder, tmp_path, monkeypatch):
    """Each opens what it sealed; a file that others may read, and two at once, are refused."""
    monkeypatch.delenv("PIPELINE_MASTER_KEY")
    monkeypatch.setenv("PIPELINE_MASTER_KEY_FILE", str(tmp_path / "key"))
    (tmp_path / "key").write_text(MASTER + "\n")
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(SettingsError, match="others may read it"):
        ran("new", "exports")
    (tmp_path / "key").chmod(0o600)
    ran("new", "exports")
    assert 0 == ran("seal", folder / "one")[0]
    monkeypatch.setenv("PIPELINE_MASTER_PASSPHRASE", "correct horse battery")
    with pytest.raises(SettingsError, match="more than one"):
        ran("verify")
    monkeypatch.delenv("PIPELINE_MASTER_KEY_FILE")
    with pytest.raises(SettingsError, match=r"passphrase\.salt"):
        ran("verify")
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path / "other"))
    ran("new", "exports")
    assert 0 == ran("seal", folder / "two")[0]
    assert 0 == ran("verify", folder / "two.sealed")[0]


@pytest.mark.parametrize("key", ["c2hvcnQ=", "not base64!", MASTER[:-1]])
def test_no_master_key(folder, monkeypatch, key):
    """What is no key of 32 bytes is refused, and not shown."""
    monkeypatch.setenv("PIPELINE_MASTER_KEY", key)
    with pytest.raises(SettingsError, match="32 bytes in base64") as caught:
        ran("new", "exports")
    assert key not in str(caught.value)
