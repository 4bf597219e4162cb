"""One alert, posted or mailed to one address by a process of its own that the kernel ends in time.

A time limit of a library is one for each read, which a receiver that drips bytes never
reaches, and nothing in Python interrupts the resolver or a handshake. An alarm of the kernel does:
it ends the process wherever it is, with its sockets and threads, also when the one that started it
has died.

The parent, `targets.send`, runs this file by its path. It imports nothing of the package but how
TLS is spoken, so that it starts in a tenth of a second.
"""

from __future__ import annotations

import base64
import json
import signal
import smtplib
import ssl
import sys
from collections.abc import Mapping
from contextlib import suppress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from market_pipeline.security.tls import tls_context
from market_pipeline.security.tls_session import tls_session

if TYPE_CHECKING:
    from requests._types import JsonType

__all__ = ["main"]

# How OpenSSL names what a server answers that has no version as new as is asked for.
_OLDER = "PROTOCOL_VERSION"
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
# More are no time to wait, and an infinite one is no JSON.
_MOST_DIGITS = 9
_PORTS = {"smtp": 25, "smtps": 465, "smtp+starttls": 587}
_LOGGED_IN = 235
_ID_HOST = "market-pipeline"


def main() -> None:
    """Posts what stands on standard input, and writes how it ended to standard output.

    Input is an object of `url`, `payload` (the JSON to send), `seconds` (for all of it, from the
    name's resolution to the head of the answer), `tls_minimum` (1.2 or 1.3), `ca_bundle` (a path,
    or null) and `mail`: null, or `sender`, `recipient`, `user` and `password` of a mail, whose
    `payload` is that of `payloads.mail_payload`.
    The last line of output is an object of `status` and `retry_after_seconds`, or of `refused`, a
    text that shows nothing of the address. The process is ended by SIGALRM if the time is over.
    """
    message = json.load(sys.stdin)
    # Both may have been inherited from a parent that ignores or blocks it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    signal.setitimer(signal.ITIMER_REAL, message["seconds"])
    outcome = _outcome(message)
    signal.setitimer(signal.ITIMER_REAL, 0)
    # A line of its own: what Python loads at its start may have written to the same place.
    sys.stdout.write(f"\n{json.dumps(outcome)}\n")


def _outcome(message: dict[str, Any]) -> dict[str, str | float]:
    """Texts and causes of errors hold the address: only their kind is reported."""
    tls_minimum, ca_bundle = message["tls_minimum"], message["ca_bundle"]
    context = tls_context(tls_minimum)
    try:
        if ca_bundle is not None:
            context.load_verify_locations(ca_bundle)
    except OSError:
        return {"refused": "the file of certificate authorities cannot be used"}
    url, payload, mail = message["url"], message["payload"], message["mail"]
    try:
        if mail is not None:
            if ca_bundle is None:
                context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
            return _mailed(url, payload, mail, context)
        return _posted(url, payload, context, ca_bundle)
    except (requests.exceptions.SSLError, ssl.SSLError) as error:
        if _OLDER in str(error):
            return {"refused": f"it does not offer TLS {tls_minimum} (PIPELINE_TLS_MINIMUM)"}
        if _UNTRUSTED in str(error):
            return {"refused": "its TLS certificate was not accepted"}
        return {"refused": f"no TLS {tls_minimum} or newer with it (PIPELINE_TLS_MINIMUM)"}
    except (requests.exceptions.ConnectionError, smtplib.SMTPServerDisconnected):
        return {"refused": "no connection to it"}
    except (requests.exceptions.RequestException, smtplib.SMTPException, ValueError) as error:
        return {"refused": f"it cannot be asked ({type(error).__name__})"}
    except OSError:
        return {"refused": "no connection to it"}


def _posted(
    url: str, payload: JsonType, context: ssl.SSLContext, ca_bundle: str | None
) -> dict[str, str | float]:
    """No redirect is followed, TLS certificates are verified, the answer's body is not read."""
    with tls_session(url, context, ca_bundle) as session:
        answer = session.post(url, json=payload, allow_redirects=False, stream=True)
        answer.close()
    asked = answer.headers.get("Retry-After", "")
    return {
        "status": answer.status_code,
        "retry_after_seconds": float(asked)
        if asked.isdecimal() and len(asked) <= _MOST_DIGITS
        else 0.0,
    }


def _mailed(
    url: str, payload: Mapping[str, Any], mail: Mapping[str, str | None], context: ssl.SSLContext
) -> dict[str, str | float]:
    """Hands a mail to a server, whose certificate is verified unless the address has no TLS."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    server: smtplib.SMTP | None = None
    try:
        if parts.scheme == "smtps":
            server = smtplib.SMTP_SSL(host, port, context=context)
        else:
            server = smtplib.SMTP(host, port)
        if parts.scheme == "smtp+starttls":
            server.starttls(context=context)
        if mail["password"] is not None:
            _log_in(server, mail["user"] or "", mail["password"])
        server.send_message(_letter(payload, mail))
        with suppress(OSError):  # it has the mail: whatever it says now does not matter
            server.putcmd("quit")
    except smtplib.SMTPNotSupportedError:
        return {"refused": "it does not offer what it is asked for: STARTTLS, or a login"}
    except smtplib.SMTPRecipientsRefused as error:
        return _answered(next(iter(error.recipients.values()))[0])
    except smtplib.SMTPResponseException as error:
        return _answered(error.smtp_code)
    finally:
        if server is not None:
            server.close()
    return {"status": 250}


def _answered(code: int) -> dict[str, str | float]:
    """Of an answer that was not the one in turn: not even a 250 is one to the mail."""
    is_good = HTTPStatus.OK <= code < HTTPStatus.MULTIPLE_CHOICES
    return {"refused": f"it answered {code} out of turn"} if is_good else {"status": code}


def _log_in(server: smtplib.SMTP, user: str, password: str) -> None:
    """As the library does, which knows ASCII alone; all else is UTF-8 (RFC 4616)."""
    if user.isascii() and password.isascii():
        server.login(user, password)
        return
    server.ehlo_or_helo_if_needed()
    if "PLAIN" not in server.esmtp_features.get("auth", "").upper().split():
        raise smtplib.SMTPNotSupportedError
    login = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
    code, answer = server.docmd("AUTH", f"PLAIN {login}")
    if code != _LOGGED_IN:
        raise smtplib.SMTPAuthenticationError(code, answer)


def _letter(payload: Mapping[str, Any], mail: Mapping[str, str | None]) -> EmailMessage:
    """The mail with its headers; no text in it becomes another header, which `email` refuses."""
    letter = EmailMessage(policy=SMTP)
    letter["From"], letter["To"] = mail["sender"], mail["recipient"]
    # A begin of what RFC 2047 encodes would be decoded, line breaks and all, and written as it is.
    letter["Subject"] = payload["subject"].replace("=?", "= ?")
    letter["Date"] = formatdate(payload["at"])
    letter["Message-ID"] = f"<{payload['id']}@{_ID_HOST}>"
    if payload["answers"]:
        for name in ("In-Reply-To", "References"):
            letter[name] = f"<{payload['answers']}@{_ID_HOST}>"
    letter["Auto-Submitted"] = "auto-generated"  # nobody's notice of absence answers it
    letter.set_content(payload["text"], cte="quoted-printable")
    return letter


if __name__ == "__main__":
    main()
