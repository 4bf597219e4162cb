from __future__ import annotations

import os
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.config import Config

from market_pipeline.store._credentials import credentials_kind, session
from market_pipeline_tests.store.servers import no_credentials


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """A current folder without `.env`, and none of this machine's credentials."""
    no_credentials(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pair():
    """The key and the secret that would be used, and where they come from."""
    made = session()
    found = made.get_credentials()
    return (found.access_key, found.secret_key, found.token, credentials_kind(made))


def test_none():
    """Without any credentials there is no kind of them."""
    assert credentials_kind(session()) is None


def test_environment(monkeypatch):
    """Keys of the environment are used."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "S")
    assert ("A", "S", None, "the environment") == pair()


def test_env_file(clean):
    """Keys of `.env` are used, and are not put into the environment of other programs."""
    (clean / ".env").write_text(
        "PIPELINE_THREADS=1\nAWS_ACCESS_KEY_ID=A\nAWS_SECRET_ACCESS_KEY='S'\nAWS_SESSION_TOKEN=T\n"
    )
    assert ("A", "S", "T", ".env") == pair()
    assert "AWS_SECRET_ACCESS_KEY" not in os.environ


def test_rotated_while_they_are_used(clean, monkeypatch):
    """A client that is open signs with the keys that stand there now, once these are whole."""
    monkeypatch.setattr("market_pipeline.store._credentials._ANEW_S", 0.0)
    lines = "AWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY=S\nAWS_SESSION_TOKEN=T\n"
    (clean / ".env").write_text(lines.format("A"))
    client = session().client(
        "s3", region_name="eu-west-1", config=Config(signature_version="s3v4")
    )

    def signed() -> tuple[str, str]:
        url = client.generate_presigned_url("get_object", {"Bucket": "b", "Key": "k"})
        asked = parse_qs(urlsplit(url).query)
        (key,), (token,) = asked["X-Amz-Credential"], asked["X-Amz-Security-Token"]
        return key.partition("/")[0], token

    found = [signed()]
    for text in (lines.format("B"), "AWS_ACCESS_KEY_ID=C\n", "", lines.format("D")):
        (clean / ".env").write_text(text)
        found.append(signed())
    assert [("A", "T"), ("B", "T"), ("B", "T"), ("B", "T"), ("D", "T")] == found


def test_half_a_pair(clean):
    """A key without its secret is for the store to refuse; a public one does not look at it."""
    (clean / ".env").write_text("AWS_ACCESS_KEY_ID=A\n")
    assert ("A", None, None, ".env") == pair()


def test_environment_before_env_file(clean, monkeypatch):
    """Keys of the environment go before those of `.env`, and the two are never mixed."""
    lines = "AWS_ACCESS_KEY_ID=A\nAWS_SECRET_ACCESS_KEY=S\nAWS_SESSION_TOKEN=T\n"
    (clean / ".env").write_text(lines)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "B")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "R")
    assert ("B", "R", None, "the environment") == pair()


def test_aws_files(clean):
    """Without any in the environment or `.env` the files of the AWS tools are asked."""
    (clean / "credentials").write_text("[default]\naws_access_key_id=C\naws_secret_access_key=Q\n")
    assert ("C", "Q", None, "the AWS credentials file") == pair()


def test_profile_of_env_file(clean):
    """`.env` may name a profile of the AWS files."""
    (clean / "credentials").write_text("[lake]\naws_access_key_id=L\naws_secret_access_key=K\n")
    (clean / ".env").write_text("AWS_PROFILE=lake\n")
    assert ("L", "K", None, "the AWS credentials file") == pair()


def test_blank_lines(clean):
    """Lines of `.env` without a value set nothing, as in the example that is copied."""
    (clean / ".env").write_text("AWS_ACCESS_KEY_ID=\nAWS_SECRET_ACCESS_KEY=\nAWS_PROFILE=\n")
    assert credentials_kind(session()) is None
