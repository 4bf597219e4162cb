"""Mails to a real server: what arrives, over which TLS, and why one does not."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest

from market_pipeline.alerts.targets import Mail, Refused, Target, send
from market_pipeline_tests.alerts import mail_server
from market_pipeline_tests.alerts.bad_receivers import serving
from market_pipeline_tests.alerts.factory import LINKS, an_alert
from market_pipeline_tests.alerts.mail_server import PASSWORD, USER, serving_mail
from market_pipeline_tests.store.certificates import Certificates, make_certificates

THERE = "night@there.example"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of the server, by an authority of the test's own."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def mailbox(url: str, certificates: Certificates, password: str | None = PASSWORD) -> Target:
    """A receiver of mails that a server takes."""
    return Target("email", url, "1.3", certificates.authority, Mail(USER, THERE, USER, password))


def refusal(target: Target, seconds: float = 60.0) -> str:
    """Why a mailbox did not get an alert."""
    with pytest.raises(Refused) as caught:
        send(target, an_alert(), LINKS, timeout_seconds=seconds)
    return str(caught.value)


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls", "smtp"])
def test_it_arrives(certificates: Certificates, scheme):
    """Over TLS with a login, or without both: one mail, of plain text, to the one mailbox."""
    with serving_mail(certificates, scheme) as server:
        target = mailbox(server.url, certificates, None if scheme == "smtp" else PASSWORD)
        send(target, an_alert(summary="Spanne é\nzwei"), LINKS, timeout_seconds=60)
    ((sender, recipients, letter),) = server.taken

    assert (USER, [THERE]) == (sender, recipients)
    assert "[warning] gap BINANCE:BTC-USDT 2024-08-08" == letter["Subject"]
    assert letter.get_content().splitlines() == [
        "Spanne é",
        "zwei",
        "",
        "severity: warning",
        "check: gap",
        "instrument: BINANCE:BTC-USDT",
        "exchange: BINANCE",
        "symbol: BTC-USDT",
        "day: 2024-08-08",
        "figure: 5",
        "threshold: 0",
        "run_id: run-1",
        "run_url: https://ui.example.org/runs/run-1",
        "runbook_url: https://docs.example.org/pages/checks/gap.md",
    ]
    assert ("Fri, 09 Aug 2024 02:00:00 -0000", "auto-generated") == (
        letter["Date"],
        letter["Auto-Submitted"],
    )


def test_twice_and_its_end(certificates: Certificates):
    """The same alert is the same mail, and its end is an answer to it."""
    begun = an_alert(kind="frames_missing", check=None, host="here", day=None)
    ended = replace(begun, ended_ns=begun.at_ns + 10**9)
    with serving_mail(certificates, "smtp") as server:
        for alert in (begun, begun, ended):
            send(mailbox(server.url, certificates, None), alert, LINKS, timeout_seconds=60)
    first, second, last = (letter for _, _, letter in server.taken)

    assert first.as_bytes() == second.as_bytes()
    assert first["Message-ID"] == last["In-Reply-To"] == last["References"] != last["Message-ID"]
    assert "no more: frames are missing" in last["Subject"]


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
class TestTls:
    def test_an_older_one(self, certificates: Certificates, scheme):
        """A server with TLS 1.2 gets nothing, unless the settings accept it."""
        with serving_mail(certificates, scheme, "1.2") as server:
            target = mailbox(server.url, certificates)
            assert "(PIPELINE_TLS_MINIMUM)" in refusal(target)
            assert [] == server.taken
            send(replace(target, tls_minimum="1.2"), an_alert(), LINKS, timeout_seconds=60)
        assert 1 == len(server.taken)

    def test_a_certificate_of_nobody(self, certificates: Certificates, scheme):
        """Without its authority, and with the usual ones, it gets neither mail nor password."""
        with serving_mail(certificates, scheme) as server:
            target = replace(mailbox(server.url, certificates), ca_bundle=None)
            assert "its TLS certificate was not accepted" == refusal(target)
        assert [] == server.taken


def test_no_other_header(certificates: Certificates):
    """Nothing of an alert becomes a header or a line of its own, encoded or not."""
    for check in ("gap\r\nBcc: x@y", "=?utf-8?q?=0D=0ABcc:x?=", "gap\u2028Bcc: x", "\ud800"):
        with serving_mail(certificates, "smtp") as server:
            target = mailbox(server.url, certificates, None)
            send(target, an_alert(check=check), LINKS, timeout_seconds=60)
        ((_, _, letter),) = server.taken
        lines = letter.as_string().splitlines()
        assert [] == [line for line in lines if line.startswith("Bcc")]


def test_a_password_beyond_ascii(certificates: Certificates, monkeypatch):
    """Spaces and umlauts arrive as UTF-8."""
    monkeypatch.setattr(mail_server, "PASSWORD", password := "hünter 2 €")
    with serving_mail(certificates, "smtps") as server:
        send(mailbox(server.url, certificates, password), an_alert(), LINKS, timeout_seconds=60)
        assert "it answered 535" == refusal(mailbox(server.url, certificates, "wröng"))
    assert 1 == len(server.taken)


def speaks(mails: list[int], **answers: str) -> Callable[[socket.socket], None]:
    """A server of mail that answers some words in its own way, and resets once it has a mail."""
    said = {
        "HELLO": "220 hi",
        "ehlo": "250-hi\r\n250 AUTH PLAIN",
        "AUTH": "235 ok",
        "data": "354 go",
    }
    said |= answers

    def serve(connection: socket.socket) -> None:
        lines = connection.makefile("rb")
        connection.sendall(f"{said['HELLO']}\r\n".encode())
        for line in lines:
            word = line[:4].decode().strip()
            connection.sendall(f"{said.get(word, '250 ok')}\r\n".encode())
            if word == "data" and said[word].startswith("354"):
                while lines.readline() != b".\r\n":
                    pass
                mails.append(1)
                connection.sendall(b"250 taken\r\n")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                lines.close()
                return

    return serve


@pytest.mark.parametrize("word", ["HELLO", "AUTH", "data"])
def test_yes_out_of_turn(certificates: Certificates, word):
    """A server that says yes to something else has no mail."""
    with serving(speaks([], **{word: "250 ok"})) as port:
        said = refusal(mailbox(f"smtp://127.0.0.1:{port}", certificates))
    assert "it answered 250 out of turn" == said


def test_reset_afterwards(certificates: Certificates):
    """A mail that was taken is not sent again because the server breaks off then."""
    mails: list[int] = []
    with serving(speaks(mails)) as port:
        target = mailbox(f"smtp://127.0.0.1:{port}", certificates)
        send(target, an_alert(), LINKS, timeout_seconds=60)
    assert [1] == mails


class TestRefused:
    @pytest.mark.parametrize("refuses_recipients", [True, False], ids=["recipient", "mail"])
    def test_by_the_server(self, certificates: Certificates, refuses_recipients):
        """Only the code is reported: a server's text may hold anything."""
        with serving_mail(certificates, "smtp") as server:
            server.answer, server.refuses_recipients = f"550 {PASSWORD}", refuses_recipients
            assert "it answered 550" == refusal(mailbox(server.url, certificates, None))

    def test_by_its_login(self, certificates: Certificates):
        """A wrong password is a refusal, and so is a login where the server takes none."""
        with serving_mail(certificates, "smtps") as server:
            assert "it answered 535" == refusal(mailbox(server.url, certificates, "wrong"))
        with serving_mail(certificates, "smtp") as server:
            said = refusal(mailbox(server.url, certificates))
        assert "it does not offer what it is asked for: STARTTLS, or a login" == said

    def test_without_starttls(self, certificates: Certificates):
        """A server that offers no TLS, as one in between would, gets neither login nor mail."""
        with serving_mail(certificates, "smtp") as server:
            target = mailbox(server.url.replace("smtp:", "smtp+starttls:"), certificates)
            assert "STARTTLS" in refusal(target)
        assert [] == server.taken

    def test_in_time(self, certificates: Certificates):
        """One that drips is left when the time is over, and one that is down at once."""

        def drips(connection) -> None:
            while True:
                connection.sendall(b"2")

        with serving(drips) as port:
            target = mailbox(f"smtp://127.0.0.1:{port}", certificates)
            assert {refusal(target, 2)} <= {"no answer within 2 s", "it answered 500"}
        assert "no connection to it" == refusal(target)


def test_what_is_shown():
    """A mailbox keeps its name whatever server takes its mail, and its password is in no text."""
    one, other = (
        Target("email", url, mail=Mail(USER, THERE, USER, PASSWORD))
        for url in ("smtp://127.0.0.1:25", "smtps://mail.example")
    )
    assert one.name == other.name
    assert PASSWORD not in repr(one)
