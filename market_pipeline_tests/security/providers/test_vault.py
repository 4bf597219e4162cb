from __future__ import annotations

import ssl

import pytest

from market_pipeline.config.providers import forget_provided
from market_pipeline.config.settings import load_settings
from market_pipeline.errors import SettingsError
from market_pipeline.scrub.scrubber import scrubbed
from market_pipeline.store._credentials import credentials_kind, session
from market_pipeline_tests.security.providers.vaults import ROOT_TOKEN, AnsweringVault, openbao
from market_pipeline_tests.store.certificates import make_certificates
from market_pipeline_tests.tls_servers import offering

HOOK = "https://hooks.example/services/T0K3Nabc"


@pytest.fixture
def vault(setting):
    """A vault with the address of a receiver, which the settings name."""
    with AnsweringVault().serving() as made:
        made.values = {"PIPELINE_ALERT_SLACK_URLS": HOOK}
        setting(provider="vault", address=made.address, path="kv/lake", token=ROOT_TOKEN)
        yield made


def hooks():
    return load_settings().alert_slack_urls.get_secret_value()


def problem():
    forget_provided()
    with pytest.raises(SettingsError) as raised:
        load_settings()
    return " ".join(raised.value.problems)


def test_gives_what_nothing_else_sets(vault, monkeypatch):
    """A secret comes from Vault unless the environment sets it, and is known to the scrubber."""
    assert (HOOK, "[secret]") == (hooks(), scrubbed("T0K3Nabc"))
    monkeypatch.setenv("PIPELINE_ALERT_SLACK_URLS", "https://other.example/x")
    assert "https://other.example/x" == hooks()


def test_is_asked_again_when_its_time_is_over(vault, setting):
    """For its lifetime the value of before is used without asking; then the rotated one is."""
    setting(lifetime_seconds=1e9)
    hooks(), hooks()
    vault.values = {"alert_slack_urls": "https://rotated.example/x"}
    assert (1, HOOK) == (vault.asked, hooks())
    setting(lifetime_seconds=1e-6)
    assert "https://rotated.example/x" == hooks()


def test_goes_on_without_it(vault, setting, caplog):
    """A process that had the secrets goes on with them where Vault does not answer, and logs it."""
    setting(lifetime_seconds=1e-6)
    hooks()
    vault.token = "another"
    assert (HOOK, 1) == (hooks(), len(caplog.records))
    assert ROOT_TOKEN not in caplog.text


def test_credentials_of_the_store(vault):
    """Keys of the store may stand there too; they are used whole, and their place is named."""
    vault.values = {"AWS_ACCESS_KEY_ID": "AKEYID0001", "AWS_SECRET_ACCESS_KEY": "s3cr3t-key"}
    made = session()
    found = made.get_credentials()
    assert ("AKEYID0001", "s3cr3t-key") == (found.access_key, found.secret_key)
    assert "provider vault" == credentials_kind(made)


def test_errors_name_what_to_change(vault, setting, folder, monkeypatch):
    """Each error names the provider and the setting to look at, and shows no value of one."""
    found = {}
    vault.values = {"threads": "2"}
    found["no secret"] = problem()
    vault.values = {"alert_slack_urls": 5}
    found["no text"] = problem()
    vault.values = {"alert_slack_url": "x-planted-1"}
    found["unknown"] = problem()
    vault.values = {"alert_slack_urls": "ftp://x-planted-1"}
    found["refused"] = problem()
    setting(path="kv/other")
    found["path"] = problem()
    setting(path="kv")
    found["short path"] = problem()
    setting(path="kv/lake", token="wrong-planted-2")
    found["token"] = problem()
    setting(token="", token_file=folder / "none")
    found["token_file"] = problem()
    setting(token_file="")
    found["no token"] = problem()
    setting(token=ROOT_TOKEN, address="http://127.0.0.1:1")
    found["address"] = problem()
    setting(address="http://vault.example:8200")
    found["in clear"] = problem()
    assert [] == [name for name, text in found.items() if "vault" not in text]
    assert [] == [text for text in found.values() if "planted" in text or ROOT_TOKEN in text]
    names = ("PATH", "PATH", "TOKEN", "TOKEN_FILE", "TOKEN", "ADDRESS", "ADDRESS")
    texts = list(found.values())[4:]
    assert [] == [
        text
        for name, text in zip(names, texts, strict=True)
        if f"PIPELINE_SECRETS__{name}" not in text
    ]


def test_answers_that_nobody_expects(vault, setting, folder, monkeypatch):
    """Whatever Vault or a library does is an error of settings, so that the rest still holds."""
    found = []
    for answer in ((472, {}), (999, {}), (200, {"data": "x" * (1 << 21)})):
        vault.answer = answer
        found.append(problem())
    setting(ca_bundle=folder)
    found.append(problem())
    setting(ca_bundle="", token="tök-planted-3")
    found.append(problem())
    monkeypatch.setattr("market_pipeline.security.providers.vault.read", lambda _: {}["planted"])
    found.append(problem())
    assert [] == [text for text in found if "provider vault" not in text or "planted" in text]


@pytest.mark.parametrize(
    ("newest", "minimum", "trusted", "said"),
    [
        ("1.3", "1.3", True, None),
        ("1.2", "1.2", True, None),
        ("1.2", "1.3", True, "PIPELINE_TLS_MINIMUM"),
        ("1.3", "1.3", False, "PIPELINE_SECRETS__CA_BUNDLE"),
    ],
    ids=["1.3", "1.2 that is accepted", "1.2", "another authority"],
)
def test_tls(setting, folder, monkeypatch, newest, minimum, trusted, said):
    """Vault is asked over TLS 1.3, or 1.2 where the settings accept it, if its certificate is of
    an authority that they name; otherwise the token is not sent, and the error says which is wrong.
    """
    certificates = make_certificates(folder)
    context = offering(certificates, ssl.TLSVersion[f"TLSv1_{newest[-1]}"])
    with AnsweringVault().serving(context) as vault:
        vault.values = {"PIPELINE_ALERT_SLACK_URLS": HOOK}
        setting(provider="vault", address=vault.address, path="kv/lake", token=ROOT_TOKEN)
        monkeypatch.setenv("PIPELINE_TLS_MINIMUM", minimum)
        if trusted:
            setting(ca_bundle=certificates.authority)
        assert HOOK == hooks() if said is None else said in problem()
        assert (said is None) == vault.asked


def test_token_of_a_file(vault, setting, folder):
    """The token may lie in a file that an agent renews: it is read each time Vault is asked."""
    (folder / "token").write_text(f"{ROOT_TOKEN}\n")
    setting(token="", token_file=folder / "token", lifetime_seconds=1e-6)
    hooks()
    vault.token = "renewed-t0ken"
    (folder / "token").write_text("renewed-t0ken")
    vault.values = {"alert_slack_urls": "https://rotated.example/x"}
    assert "https://rotated.example/x" == hooks()


@pytest.mark.slow
def test_real_openbao(folder, setting):
    """Of a real OpenBao the newest version of the secret is read, with a token that may only read;
    one that is revoked is refused.
    """
    with openbao(folder) as (address, client):
        rule = 'path "secret/data/lake" { capabilities = ["read"] }'
        client.put("/v1/sys/policies/acl/reader", json={"policy": rule}).raise_for_status()
        made = client.post("/v1/auth/token/create", json={"policies": ["reader"]})
        token = made.raise_for_status().json()["auth"]["client_token"]
        setting(provider="vault", address=address, path="secret/lake", token=token)
        setting(lifetime_seconds=1e-6)
        for value in (HOOK, "https://rotated.example/x"):
            client.post("/v1/secret/data/lake", json={"data": {"alert_slack_urls": value}})
            assert value == hooks()
        client.post("/v1/auth/token/revoke", json={"token": token}).raise_for_status()
        assert "PIPELINE_SECRETS__TOKEN" in problem()
