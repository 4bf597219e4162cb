"""One alert, posted to one address by a process of its own that the kernel ends in time.

A time limit of an HTTP library is one for each read, which a receiver that drips bytes never
reaches, and nothing in Python interrupts the resolver or a handshake. An alarm of the kernel does:
it ends the process wherever it is, with its sockets and threads, also when the one that started it
has died.

The parent, `targets.send`, runs this file by its path. It imports nothing of the package, so that
it starts in a tenth of a second.
"""

from __future__ import annotations

import json
import signal
import ssl
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from requests.utils import get_auth_from_url

if TYPE_CHECKING:
    from requests._types import JsonType

__all__ = ["main"]

# How OpenSSL names what a server answers that has no version as new as is asked for.
_OLDER = "PROTOCOL_VERSION"
# More are no time to wait, and an infinite one is no JSON.
_MOST_DIGITS = 9


def main() -> None:
    """Posts what stands on standard input, and writes how it ended to standard output.

    Input is an object of `url`, `payload` (the JSON to send), `seconds` (for all of it, from the
    name's resolution to the head of the answer), `tls_minimum` (1.2 or 1.3) and `ca_bundle` (a
    path, or null). The last line of output is an object of
    `status` and `retry_after_seconds`, or of `refused`, a text that shows nothing of the address.
    The process is ended by SIGALRM if the time is over.
    """
    message = json.load(sys.stdin)
    # Both may have been inherited from a parent that ignores or blocks it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    signal.setitimer(signal.ITIMER_REAL, message["seconds"])
    outcome = _post(
        message["url"], message["payload"], message["tls_minimum"], message["ca_bundle"]
    )
    signal.setitimer(signal.ITIMER_REAL, 0)
    # A line of its own: what Python loads at its start may have written to the same place.
    sys.stdout.write(f"\n{json.dumps(outcome)}\n")


class _Adapter(HTTPAdapter):
    """Connects with a TLS context of ours; requests loads the authorities into it."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *places: Any, **named: Any) -> None:
        super().init_poolmanager(*places, ssl_context=self._context, **named)

    def proxy_manager_for(self, proxy: str, **named: Any) -> Any:
        return super().proxy_manager_for(proxy, ssl_context=self._context, **named)


def _post(
    url: str, payload: JsonType, tls_minimum: str, ca_bundle: str | None
) -> dict[str, str | float]:
    """No redirect is followed, TLS certificates are verified, the answer's body is not read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion[f"TLSv{tls_minimum.replace('.', '_')}"]
    try:
        if ca_bundle is not None:
            context.load_verify_locations(ca_bundle)
    except OSError:
        return {"refused": "the file of certificate authorities cannot be used"}
    try:
        with requests.Session() as session:
            session.mount("https://", _Adapter(context))
            session.auth = _login(url)
            answer = session.post(
                url, json=payload, allow_redirects=False, stream=True, verify=ca_bundle
            )
            answer.close()
    # Texts and causes of these errors hold the address: only their kind is reported.
    except requests.exceptions.SSLError as error:
        if _OLDER in str(error):
            return {"refused": f"it does not offer TLS {tls_minimum} (PIPELINE_TLS_MINIMUM)"}
        return {"refused": "its TLS certificate was not accepted"}
    except requests.exceptions.ConnectionError:
        return {"refused": "no connection to it"}
    except (requests.exceptions.RequestException, ValueError) as error:
        return {"refused": f"it cannot be asked ({type(error).__name__})"}
    asked = answer.headers.get("Retry-After", "")
    return {
        "status": answer.status_code,
        "retry_after_seconds": float(asked)
        if asked.isdecimal() and len(asked) <= _MOST_DIGITS
        else 0.0,
    }


def _login(url: str) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    """Those of the address itself, or none: left alone, requests would look into ~/.netrc."""
    user, password = get_auth_from_url(url)
    return HTTPBasicAuth(user, password) if user or password else _unchanged


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


if __name__ == "__main__":
    main()
