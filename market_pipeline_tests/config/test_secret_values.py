from __future__ import annotations

import base64
import os

import pytest

from market_pipeline.config.secret_values import learn_environment, learn_secret
from market_pipeline.config.settings import load_settings
from market_pipeline.errors import SettingsError
from market_pipeline.scrub.scrubber import known_secrets, scrubbed


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty current folder and an empty environment."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_address_with_tokens():
    """Of a receiver's address the whole, login, path and query are each a secret."""
    learn_secret("https://me:p%40ss-w0rd@hooks.example/services/T024BE7LD/abc?sig=Zx81qq")
    texts = ("p@ss-w0rd", "p%40ss-w0rd", "T024BE7LD", "sig=Zx81qq", "me:p%40ss-w0rd")
    assert ["[secret]"] * 5 == [scrubbed(each) for each in texts]
    assert "the services of hooks.example" == scrubbed("the services of hooks.example")


KEYS = [os.urandom(32), bytes(range(32)), b"\t\r\n\x0b\x0c\x1c'\"\\%&" * 3]


@pytest.mark.parametrize("key", KEYS, ids=["random", "low", "escaped"])
def test_bytes_of_a_key(key):
    """A key in base64 is known by its bytes too, as an error of a library may print them."""
    learn_secret(base64.b64encode(key).decode())
    assert (True, False) == ("[secret]" in scrubbed(repr(key)), key.hex() in scrubbed(key.hex()))


def test_environment_by_name(monkeypatch):
    """What the environment names a secret is one, whoever it is for; a file's name is none."""
    monkeypatch.setenv("SOMEBODYS_API_TOKEN", "tok-99-abc")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKEYID0001")
    monkeypatch.setenv("A_TOKEN_FILE", "/run/secrets/token1")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy-user:proxy-pw1@proxy:3128")
    learn_environment()
    expected = {"tok-99-abc", "AKEYID0001", "proxy-user:proxy-pw1", "proxy-pw1"}
    assert expected == set(known_secrets())


def test_places_of_secrets(monkeypatch, tmp_path):
    """A folder or file of secrets, as systemd names one, is none: all paths below it are shown."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/market.service")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path))
    learn_environment()
    assert () == known_secrets()


def test_refused_settings_are_known(monkeypatch):
    """Also a secret that is refused is known: an error may show what it was about."""
    monkeypatch.setenv("PIPELINE_MASTER_PASSPHRASE", "too-short-7")
    monkeypatch.setenv("PIPELINE_LAKE_URI", "s3://AKEYID0001:s3cr3t-of-the-lake@bucket/lake")
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert {"too-short-7", "s3cr3t-of-the-lake"} <= set(known_secrets())
    assert "s3cr3t" not in str(raised.value)
