"""A server of mail on loopback, with TLS of any kind, that takes mails from who logs in."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword

from market_pipeline_tests.store.certificates import Certificates

USER, PASSWORD = "pipeline@here.example", "hunter2-planted"


@dataclass
class MailServer:
    """What it took, of whom and for whom; it answers `answer` to a recipient or a mail."""

    url: str = ""
    answer: str = "250 OK"
    refuses_recipients: bool = False
    taken: list[tuple[str, list[str], EmailMessage]] = field(default_factory=list)

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Envelope, to: str, _: Any):
        if self.refuses_recipients:
            return self.answer
        envelope.rcpt_tos.append(to)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:
        if self.answer == "250 OK":
            letter = message_from_bytes(envelope.content, policy=default)
            self.taken.append((envelope.mail_from, envelope.rcpt_tos, letter))
        return self.answer


def _authenticated(*given: Any) -> AuthResult:
    assert isinstance(given[-1], LoginPassword)
    login = given[-1].login.decode(), given[-1].password.decode()
    return AuthResult(success=login == (USER, PASSWORD), handled=False)


@contextmanager
def serving_mail(
    certificates: Certificates, scheme: str, newest_tls: str = "1.3"
) -> Iterator[MailServer]:
    """A server of mail whose address has a scheme; in clear nobody logs in."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.key)
    context.maximum_version = ssl.TLSVersion[f"TLSv{newest_tls.replace('.', '_')}"]
    is_starttls = scheme == "smtp+starttls"
    mail, loop = MailServer(), asyncio.new_event_loop()

    def session() -> SMTP:
        return SMTP(
            mail,
            tls_context=context if is_starttls else None,
            require_starttls=is_starttls,
            authenticator=_authenticated,
            auth_required=is_starttls,
            auth_require_tls=scheme != "smtps",  # that one it does not see
            loop=loop,
        )

    serving = loop.run_until_complete(
        loop.create_server(session, "127.0.0.1", 0, ssl=context if scheme == "smtps" else None)
    )
    mail.url = f"{scheme}://localhost:{serving.sockets[0].getsockname()[1]}"
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield mail
    finally:
        loop.call_soon_threadsafe(serving.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
