"""Keys that lie in a service of another package."""

from __future__ import annotations

import json
import os

import pytest
from typer.testing import CliRunner

from market_pipeline.cli.app import app
from market_pipeline.errors import SealError, SettingsError
from market_pipeline.security.envelope import read_all_slots, write_slots
from market_pipeline.security.files import open_sealed, rewrap, sealed_whole
from market_pipeline.security.ring import KeyRing
from market_pipeline.security.sealing import seal_in_place
from market_pipeline.security.services import key_service

SERVICE = """
import os
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

class Service:
    def __init__(self, key):
        self.key = key
        if os.environ.get("SERVICE_IS_NOT_SET_UP"):
            raise KeyError("REGION")
        self.cipher = AESGCM(key.ljust(32, "x").encode())

    def wrap(self, file_key, context):
        if self.key == "open":
            return b"wrapped:" + file_key
        nonce = os.urandom(12)
        return nonce + self.cipher.encrypt(nonce, file_key, context)

    def unwrap(self, wrapped, context):
        if os.environ.get("SERVICE_IS_AWAY"):
            raise ConnectionError("nobody answers")
        if self.key == "short":
            return self.cipher.decrypt(wrapped[:12], wrapped[12:], context)[:16]
        return self.cipher.decrypt(wrapped[:12], wrapped[12:], context)
"""


@pytest.fixture(autouse=True)
def _installed(tmp_path, monkeypatch):
    """A package that brings the service `own`, and two that bring `twice`."""
    for number, names in enumerate((["own", "twice"], ["twice"])):
        info = tmp_path / "site" / f"my_keys_{number}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: my-keys-{number}\n")
        lines = [f"{name} = my_keys:Service" for name in names]
        text = "\n".join(["[market_pipeline.key_services]", *lines, ""])
        (info / "entry_points.txt").write_text(text)
    (tmp_path / "site" / "my_keys.py").write_text(SERVICE)
    monkeypatch.syspath_prepend(tmp_path / "site")
    key_service.cache_clear()
    yield
    key_service.cache_clear()


@pytest.fixture
def ring(tmp_path):
    """A ring without a master key, and with a key of the service."""
    ring = KeyRing(tmp_path / "keys", None)
    ring.new_of_service("exports", "own:books")
    return ring


def content_of(path, ring):
    with open_sealed(path, ring) as file:
        return file.read()


def test_a_file_is_sealed_and_opened_without_a_master_key(tmp_path, ring):
    """Also in the place of a plain one, which is opened and compared before it goes."""
    path = tmp_path / "rows.csv"
    path.write_bytes(content := os.urandom(1_500_000))
    seal_in_place(path, ring, "exports")
    assert not path.exists()
    assert content == content_of(tmp_path / "rows.csv.sealed", KeyRing(tmp_path / "keys", None))


def test_files_go_over_to_a_service(tmp_path):
    """What the master key sealed is opened by the service alone once it was given to its key."""
    ring = KeyRing(tmp_path / "keys", bytes(range(32)))
    ring.new("exports")
    with sealed_whole(tmp_path / "rows.sealed", ring, "exports") as file:
        file.write(b"rows")
    ring.new_of_service("exports", "own:books")
    rewrap(tmp_path / "rows.sealed", ring)
    assert b"rows" == content_of(tmp_path / "rows.sealed", KeyRing(tmp_path / "keys", None))


def test_a_service_that_is_away(tmp_path, ring, monkeypatch):
    """The error has the key's id, the service and what it raised, and nothing is opened."""
    with sealed_whole(tmp_path / "rows.sealed", ring, "exports") as file:
        file.write(b"rows")
    monkeypatch.setenv("SERVICE_IS_AWAY", "1")
    with pytest.raises(SealError) as caught:
        content_of(tmp_path / "rows.sealed", ring)
    key = ring.active("exports").id
    assert f"{key}: its service own:books: ConnectionError: nobody answers" == caught.value.found


def test_a_service_that_does_not_begin(tmp_path, monkeypatch):
    """It is a reason as any other, and a slot after it still opens the file."""
    ring, path = KeyRing(tmp_path / "keys", bytes(range(32))), tmp_path / "rows.sealed"
    ring.new("exports")
    with sealed_whole(path, ring, "exports") as file:
        file.write(b"rows")
    (of_master,) = read_all_slots(path).values()
    ring.new_of_service("exports", "own:books")
    rewrap(path, ring)
    ((file_id, of_service),) = read_all_slots(path).items()
    key_service.cache_clear()
    monkeypatch.setenv("SERVICE_IS_NOT_SET_UP", "1")
    with pytest.raises(SealError, match=r"own does not begin: KeyError: 'REGION'"):
        content_of(path, ring)
    write_slots(path, {file_id: [*of_service, *of_master]})
    assert b"rows" == content_of(path, ring)


def test_slots_of_another_file(tmp_path, ring):
    """A slot opens no file but its own, as the service is given what it is bound to."""
    for name in ("one", "other"):
        with sealed_whole(tmp_path / f"{name}.sealed", ring, "exports") as file:
            file.write(name.encode())
    one, other = (tmp_path / f"{name}.sealed.keys" for name in ("one", "other"))
    ids = [path.read_text().split('"')[1] for path in (one, other)]
    one.write_text(other.read_text().replace(ids[1], ids[0]))
    with pytest.raises(SealError, match="InvalidTag"):
        content_of(tmp_path / "one.sealed", ring)


@pytest.mark.parametrize(
    ("service", "error", "text"),
    [
        ("nobody", SettingsError, "the key service nobody is unknown"),
        ("twice:books", SettingsError, "brought by several packages"),
        ("own:open", SealError, "shows what it wraps"),
        ("own:short", SealError, "16 bytes, where a file's key has 32"),
    ],
)
def test_one_that_cannot_be_used(tmp_path, service, error, text):
    """It is refused before it is the key that seals."""
    ring = KeyRing(tmp_path / "keys", None)
    with pytest.raises(error, match=text):
        ring.new_of_service("exports", service)
    assert () == KeyRing(tmp_path / "keys", None).keys


def test_the_verb(tmp_path, monkeypatch):
    """`keys new --service` takes the key, and the list says which it is; one way at a time."""
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path / "data"))
    new = ["keys", "new", "captures", "--service", "own:books"]
    assert 2 == CliRunner().invoke(app, [*new, "--pair"]).exit_code
    assert 0 == CliRunner().invoke(app, new).exit_code
    (key,) = json.loads(CliRunner().invoke(app, ["keys", "list", "--json"]).stdout)
    assert ("active", "service", "own:books") == (key["state"], key["wraps_by"], key["service"])
