from __future__ import annotations

import logging
import os
import signal
import ssl
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from market_pipeline.alerts.targets import Refused, Target, configured_targets, send
from market_pipeline.config.settings import load_settings
from market_pipeline_tests.alerts.bad_receivers import (
    PATIENCE_SECONDS,
    REFUSALS,
    STRANGE,
    bad_receivers,
    hanging_resolver,
    posting,
    serving,
)
from market_pipeline_tests.alerts.factory import LINKS, an_alert
from market_pipeline_tests.alerts.receiver import Receiver
from market_pipeline_tests.store.certificates import make_certificates
from market_pipeline_tests.tls_servers import serving_tls

SECRET = "hunter2"


def refusal(target: Target, seconds: float = 5.0) -> Refused:
    """Why a receiver did not take an alert."""
    with pytest.raises(Refused) as caught:
        send(target, an_alert(), LINKS, timeout_seconds=seconds)
    return caught.value


@pytest.fixture
def alarm_ignored() -> Iterator[None]:
    """SIGALRM is ignored and blocked here, which children inherit."""
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    yield
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    signal.signal(signal.SIGALRM, before)


class TestSend:
    @pytest.mark.parametrize(("kind", "key"), [("webhook", "alerts"), ("slack", "blocks")])
    def test_taken(self, receiver: Receiver, kind, key):
        """An answer of 2xx means that the receiver has it, in its own form."""
        send(Target(kind, receiver.url()), an_alert(), LINKS, timeout_seconds=5)

        assert [True] == [key in payload for payload in receiver.taken]

    @pytest.mark.parametrize("answer", [301, 307, 400, 404, 429, 500, 503])
    def test_any_other_answer_is_a_refusal(self, receiver: Receiver, answer):
        """Also a redirect, which might lead anywhere: it is not followed."""
        receiver.answers[:] = [answer]
        receiver.headers["Location"] = receiver.url("/elsewhere")

        assert f"it answered {answer}" == str(refusal(Target("webhook", receiver.url())))
        assert ["/hook"] == [path for path, _ in receiver.asked]

    @pytest.mark.parametrize(
        ("header", "seconds"), [("7", 7.0), ("soon", 0.0), ("-1", 0.0), ("9" * 400, 0.0)]
    )
    def test_retry_after(self, receiver: Receiver, header, seconds):
        """How long it wants to be left alone is told; a date or nonsense is passed over."""
        receiver.answers[:] = [429]
        receiver.headers["Retry-After"] = header

        assert seconds == refusal(Target("slack", receiver.url())).retry_after_seconds

    def test_refused_connection(self):
        """A receiver that is down is a refusal."""
        assert "no connection to it" == str(refusal(Target("webhook", Receiver().url())))

    def test_slow(self, receiver: Receiver):
        """One that does not answer in time is a refusal."""
        receiver.seconds = 1.0

        assert "no answer within 0.05 s" == str(refusal(Target("webhook", receiver.url()), 0.05))

    def test_no_bad_receiver_outlives_its_time(self, monkeypatch, tmp_path: Path):
        """Whatever one does, in whatever phase, the attempt ends, and nothing of it is left."""
        monkeypatch.setenv(
            "PYTHONPATH", hanging_resolver(tmp_path / "resolver"), prepend=os.pathsep
        )
        # All their processes at once would take longer to start than one may.
        with bad_receivers() as urls, ThreadPoolExecutor(8) as threads:
            targets = [Target("webhook", url) for url in urls.values()]
            refusals = threads.map(lambda each: refusal(each, PATIENCE_SECONDS), targets)
            said = {name: str(refused) for name, refused in zip(urls, refusals, strict=True)}

        assert REFUSALS == said
        assert [] == posting(psutil.Process())

    @pytest.mark.parametrize("kind", STRANGE)
    def test_the_body_of_an_answer_is_not_waited_for(self, kind):
        """The head of the answer says it all, however long its body is or takes."""
        with serving(STRANGE[kind]) as port:
            send(Target("slack", f"http://127.0.0.1:{port}"), an_alert(), LINKS, timeout_seconds=60)

        assert [] == posting(psutil.Process())

    @pytest.mark.usefixtures("alarm_ignored")
    def test_a_parent_that_ignores_alarms(self, receiver: Receiver):
        """The time limit holds whatever the process was started with."""
        receiver.seconds = 600.0

        assert "no answer within 0.05 s" == str(refusal(Target("webhook", receiver.url()), 0.05))

    def test_an_interpreter_that_writes_at_its_start(
        self, receiver: Receiver, monkeypatch, tmp_path: Path
    ):
        """What the environment has every Python process say does not hide the answer."""
        (tmp_path / "sitecustomize.py").write_text("print('welcome', end='')")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
        send(Target("webhook", receiver.url()), an_alert(), LINKS, timeout_seconds=5)

        assert 1 == len(receiver.taken)

    def test_no_process_can_be_started(self, receiver: Receiver, monkeypatch):
        """That is a refusal like others: the alert waits, and the machine may recover."""
        monkeypatch.setattr("sys.executable", "/nowhere/python")

        assert "no process could be started" in str(refusal(Target("webhook", receiver.url())))

    def test_not_tls(self, receiver: Receiver):
        """A receiver that cannot prove who it is gets nothing."""
        target = Target("webhook", receiver.url().replace("http", "https"))

        assert "TLS" in str(refusal(target))
        assert [] == receiver.taken

    @pytest.mark.parametrize(
        ("newest", "minimum", "said"),
        [
            ("1.3", "1.3", None),
            ("1.2", "1.3", "it does not offer TLS 1.3 (PIPELINE_TLS_MINIMUM)"),
            ("1.2", "1.2", None),
        ],
    )
    def test_an_older_tls(self, tmp_path: Path, newest, minimum, said):
        """A receiver that offers TLS 1.2 gets nothing, unless the settings accept it."""
        certificates = make_certificates(tmp_path)
        version = ssl.TLSVersion[f"TLSv1_{newest[-1]}"]
        with serving_tls(certificates, version) as (url, asked):
            target = Target("webhook", f"{url}/{SECRET}", minimum, certificates.authority)
            if said is None:
                send(target, an_alert(), LINKS, timeout_seconds=60)
            else:
                assert said == str(refusal(target, 60))
        assert [f"/{SECRET}"] * (said is None) == asked

    @pytest.mark.parametrize(
        ("bundle", "said"),
        [
            (None, "its TLS certificate was not accepted"),
            ("none.pem", "the file of certificate authorities cannot be used"),
            ("empty.pem", "the file of certificate authorities cannot be used"),
        ],
    )
    def test_authorities(self, tmp_path: Path, bundle, said):
        """Without the authority that signed its certificate a receiver gets nothing."""
        (tmp_path / "empty.pem").touch()
        named = bundle and tmp_path / bundle
        with serving_tls(make_certificates(tmp_path), ssl.TLSVersion.TLSv1_3) as (url, asked):
            assert said == str(refusal(Target("webhook", url, "1.3", named), 60))
        assert [] == asked

    @pytest.mark.parametrize(
        "url", [f"http://127.0.0.1:1/{SECRET}", f"http://{SECRET}.invalid/", f"http://*{SECRET}:1"]
    )
    def test_an_error_shows_nothing_of_the_address(self, url, caplog):
        """Neither the text nor the traceback of a refusal, nor any log line."""
        caplog.set_level(logging.DEBUG)
        refused = refusal(Target("webhook", url), 0.5)

        assert SECRET not in "".join(traceback.format_exception(refused))
        assert SECRET not in caplog.text + repr(Target("webhook", url))

    def test_login(self, receiver: Receiver, monkeypatch, tmp_path: Path):
        """A password is taken from the address and never from ~/.netrc."""
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        send(Target("webhook", receiver.url()), an_alert(), LINKS, timeout_seconds=5)
        with_login = receiver.url().replace("http://", "http://me:own@")
        send(Target("webhook", with_login), an_alert(), LINKS, timeout_seconds=5)

        assert [None, "Basic bWU6b3du"] == [
            headers.get("Authorization") for _, headers in receiver.asked
        ]

    @pytest.mark.parametrize(("severity", "level"), [("WARN", 30), ("ERROR", 40)])
    def test_log(self, caplog, severity, level):
        """The log gets one line of the alert's severity."""
        send(Target("log"), an_alert(severity=severity), LINKS, timeout_seconds=5)

        assert [("market_pipeline.alerts", level)] == [row[:2] for row in caplog.record_tuples]


class TestConfigured:
    def test_every_address_once(self):
        """The log first, then each address of every list; names tell them apart."""
        targets = configured_targets(
            load_settings(
                alert_webhook_urls="https://a/1, https://b/2,https://a/1,",
                alert_slack_urls="https://c/3",
                alert_alertmanager_urls="https://d/",
                alert_email_to="a@e,b@e",
            )
        )

        assert [
            ("log", ""),
            ("webhook", "https://a/1"),
            ("webhook", "https://b/2"),
            ("slack", "https://c/3"),
            ("alertmanager", "https://d/"),
            ("email", "smtp://127.0.0.1:25"),
            ("email", "smtp://127.0.0.1:25"),
        ] == [(target.kind, target.url) for target in targets]
        assert 7 == len({target.name for target in targets})
        assert [] == [target.name for target in targets if "//" in target.name]

    def test_none(self):
        """Without addresses there is the log, and without the log nobody."""
        assert [["log"], []] == [
            [target.name for target in configured_targets(load_settings(alert_log=log))]
            for log in (True, False)
        ]


@pytest.mark.parametrize("address", ["/am?tenant=a", "/am/?tenant=a"])
def test_an_alertmanager_behind_a_query(address):
    """The path of its API stands before the query of its address, not in it."""
    asked: list[bytes] = []

    def answers(connection) -> None:
        asked.append(connection.recv(65_536).splitlines()[0])
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with serving(answers) as port:
        target = Target("alertmanager", f"http://127.0.0.1:{port}{address}")
        send(target, an_alert(), LINKS, timeout_seconds=60)
    assert [b"POST /am/api/v2/alerts?tenant=a HTTP/1.1"] == asked
