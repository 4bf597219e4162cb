from __future__ import annotations

from pathlib import Path

import pytest
from requests import Request
from requests.adapters import HTTPAdapter

from market_pipeline.security.tls import tls_context
from market_pipeline.security.tls_session import tls_session


@pytest.mark.parametrize(
    ("login", "sent"),
    [
        ("", None),
        ("me@", "Basic bWU6"),
        ("me:p%40ss@", "Basic bWU6cEBzcw=="),
        ("m%C3%A9:€@", "Basic bcOpOuKCrA=="),
    ],
    ids=["none", "name", "name and password", "any letters"],
)
def test_the_login_is_the_address_alone(
    login: str, sent: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Sent as UTF-8; what this machine's file of logins has for the same host is not sent."""
    (tmp_path / "netrc").write_text("machine there.test login other password of-another\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with tls_session(f"https://{login}there.test", tls_context("1.3"), None) as session:
        asked = session.prepare_request(Request("GET", "https://there.test/"))
    assert sent == asked.headers.get("Authorization")


def test_a_proxy_does_not_lower_the_version():
    """A connection through a proxy is made with the same least version of TLS."""
    context = tls_context("1.3")
    adapter = tls_session("https://there.test", context, None).get_adapter("https://there.test")
    assert isinstance(adapter, HTTPAdapter)
    manager = adapter.proxy_manager_for("http://127.0.0.1:1")
    assert context is manager.connection_pool_kw["ssl_context"]
