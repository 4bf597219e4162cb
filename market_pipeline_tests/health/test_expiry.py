"""What ends some day is found, and is told in time."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from market_pipeline.config.settings import load_settings
from market_pipeline.health.expiry import (
    Expiry,
    certificates,
    check_bundles,
    check_expiries,
    session_of_store,
    token_for_vault,
)
from market_pipeline.health.look import look
from market_pipeline.health.report import Health
from market_pipeline_tests.security.providers.vaults import ROOT_TOKEN, AnsweringVault
from market_pipeline_tests.store.certificates import make_certificates
from market_pipeline_tests.tls_servers import serving_tls

DAY_S = 86_400.0


def test_a_file_of_authorities_that_is_cut_off(tmp_path: Path):
    """It is reported though its first certificate is whole: no connection is made with it."""
    made, cut = make_certificates(tmp_path), tmp_path / "cut.pem"
    pem = made.authority.read_bytes()
    cut.write_bytes(pem + pem[: len(pem) // 2])
    found = check_bundles(load_settings(alert_ca_bundle=cut, lake_ca_bundle=made.authority))
    assert [("error", "PIPELINE_ALERT_CA_BUNDLE")] == [
        (status, text.partition(":")[0]) for status, text, _ in found
    ]


def test_certificates_of_servers_and_files(tmp_path: Path):
    """The one that a server shows, though no authority here has signed it, and those in a file;
    nothing is asked of the server, and what does not answer is passed over.
    """
    made = make_certificates(tmp_path)
    with serving_tls(made, ssl.TLSVersion.TLSv1_3) as (address, asked):
        settings = load_settings(
            alert_webhook_urls=f"{address}/s3cret,https://127.0.0.1:1/",
            alert_ca_bundle=made.authority,
            lake_ca_bundle=made.key,  # no certificate
        )
        found = certificates(settings, time.time())
    ((status, text, _),) = check_bundles(settings)
    assert (
        "error",
        f"PIPELINE_LAKE_CA_BUNDLE: {made.key} cannot be read as certificates in PEM",
    ) == (*(status, text),)
    assert [] == asked
    assert [
        ("alert_ca_bundle", "an authority in PIPELINE_ALERT_CA_BUNDLE"),
        ("alert_webhook_urls", "the certificate of address 1 in PIPELINE_ALERT_WEBHOOK_URLS"),
    ] == sorted((each.setting, each.text) for each in found)
    assert max(each.at_s for each in found) - min(each.at_s for each in found) < 60  # made together


HANGING = """
import fcntl, json, socket, struct, threading, time

from market_pipeline.config.settings import load_settings
from market_pipeline.health import _server_looks, expiry

silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
is_up, set_flags = 0x41, 0x8914
fcntl.ioctl(silent, set_flags, struct.pack("16sH14x", b"lo", is_up))
silent.bind(("127.0.0.1", 53))
expiry.WAIT_S = _server_looks.WAIT_S = 0.1
settings = load_settings(alert_webhook_urls="https://hangs.example/a,https://hangs.example/b")
for _ in range(5):
    assert [] == expiry.certificates(settings, time.time())
names = [each.name for each in threading.enumerate()]
print(json.dumps([names.count("certificate"), [*expiry.check_servers(settings)]]))
"""


def test_name_servers_that_do_not_answer(tmp_path: Path):
    """However many looks there are, one look-up of a name is under way, and each address that waits
    for it is named. In a network of its own, whose only name server says nothing.
    """
    resolver, script = tmp_path / "resolv.conf", tmp_path / "hanging.py"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:1\n")
    script.write_text(HANGING)
    alone = ["unshare", "--user", "--map-root-user", "--mount", "--net"]
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], check=False).returncode:
        pytest.skip("no network of one's own can be made here")
    mount = 'mount --bind "$1" /etc/resolv.conf && exec "$2" "$3"'
    seen = subprocess.run(
        [*alone, "sh", "-c", mount, "sh", resolver, sys.executable, script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == seen.returncode, seen.stderr
    threads, findings = json.loads(seen.stdout)
    assert 1 == threads
    assert [("warn", 1), ("warn", 2)] == [
        (status, number)
        for number, (status, text, _) in enumerate(findings, start=1)
        if f"of address {number} in PIPELINE_ALERT_WEBHOOK_URLS has been under way" in text
    ]


@pytest.mark.parametrize(
    ("now_days", "end_days"), [(0, 2), (3, 40), (41, 40)], ids=["both", "one-has-ended", "all-have"]
)
def test_the_end_of_a_file_of_authorities(tmp_path: Path, now_days: int, end_days: int):
    """It is the next one, as of a system's authorities some have ended, or the last of all."""
    bundle, now_s = tmp_path / "bundle.pem", time.time()
    pems = []
    for days in (2, 40):
        (folder := tmp_path / f"{days}").mkdir()
        pems.append(make_certificates(folder, days).authority.read_bytes())
    bundle.write_bytes(b"".join(pems))
    (found,) = certificates(load_settings(lake_ca_bundle=bundle), now_s + now_days * DAY_S)
    assert end_days == round((found.at_s - now_s) / DAY_S)


@pytest.mark.parametrize(
    ("seconds", "is_renewed", "status"),
    [
        pytest.param(15 * DAY_S, False, "ok", id="later"),
        pytest.param(13 * DAY_S, False, "warn", id="soon"),
        pytest.param(-1.0, False, "error", id="over"),
        pytest.param(13 * DAY_S, True, "ok", id="renewed"),
        pytest.param(600.0, True, "warn", id="not-renewed-in-time"),
    ],
)
def test_when_it_is_told(seconds: float, is_renewed: bool, status: str):
    """Two weeks before, of what somebody renews an hour before, and as an error once it is over."""
    each = Expiry("credential", "secrets__token", "the token", 1e9 + seconds, is_renewed)
    (finding,) = check_expiries([each], "credential", 1e9)
    assert status == finding[0]
    (other,) = check_expiries([each], "certificate", 1e9)
    assert "ok" == other[0]


def test_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The end of the store's session is that of the environment, that of a token Vault's; where one
    cannot be known the other is told.
    """
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2001-09-09T02:46:40Z")
    now_s = time.time()
    with AnsweringVault().serving() as vault:
        monkeypatch.setenv("PIPELINE_SECRETS__PROVIDER", "vault")
        monkeypatch.setenv("PIPELINE_SECRETS__ADDRESS", vault.address)
        monkeypatch.setenv("PIPELINE_SECRETS__PATH", "kv/lake")
        monkeypatch.setenv("PIPELINE_SECRETS__TOKEN", ROOT_TOKEN)
        settings = load_settings(data_dir=tmp_path)
        vault.answer = 200, {"data": {"ttl": 3_600, "expire_time": "2030-01-01T00:00:00Z"}}
        assert [("secrets__token", now_s + 3_600)] == [
            (each.setting, each.at_s) for each in token_for_vault(settings, now_s)
        ]
        vault.answer = 200, {"data": {"ttl": 0, "expire_time": None}}  # as of a root token
        assert [] == token_for_vault(settings, now_s)
    assert [("lake_uri", 1_000_003_600.0)] == [
        (each.setting, each.at_s) for each in session_of_store()
    ]

    health = look(settings, (), (), now_s)  # Vault is away now
    session, token = of_credentials(health)
    assert session.startswith("the session of the store's keys expired 2001-09-09 02:46 UTC")
    assert "Vault cannot be asked" in token
    assert ["lake_uri"] == [each.setting for each in health.expiries]
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "soon")
    (session, _) = of_credentials(look(settings, (), (), now_s))
    assert "AWS_CREDENTIAL_EXPIRATION: expected a time" in session


def of_credentials(health: Health) -> list[str]:
    return [
        f"{each.found} {each.next_step}" for each in health.findings if each.name == "credentials"
    ]
