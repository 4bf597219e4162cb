"""When the certificates end that servers show.

How long a name is looked up is the system's to say: minutes, where its name servers do not answer.
So a look that hangs is left behind, but of each server at most one is under way in a process, and
the next waits for that one.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Collection
from contextlib import suppress

__all__ = ["WAIT_S", "Server", "certificate_ends", "ends_in", "under_way_s"]

WAIT_S = 5.0
"""So long a server may take, and whoever looks waits for all of them."""

Server = tuple[str, int]
"""A host and its port."""


class _Look(threading.Thread):
    """Asks a server for its certificate: nothing is sent but a greeting."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True, name="certificate")
        self._server = server
        self.began_s = time.monotonic()
        self.end_s: float | None = None

    def run(self) -> None:
        """Has when it ends; nothing where none was shown."""
        with suppress(OSError, ValueError):
            context = ssl.create_default_context()
            # Of a certificate only its end counts here: who speaks to the server validates it.
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with (
                socket.create_connection(self._server, WAIT_S) as plain,
                context.wrap_socket(plain, server_hostname=self._server[0]) as connection,
            ):
                shown = connection.getpeercert(binary_form=True)
            if shown is not None:
                self.end_s = min(ends_in(ssl.DER_cert_to_PEM_cert(shown).encode()))


_lock = threading.Lock()
_newest: dict[Server, _Look] = {}


def certificate_ends(servers: Collection[Server]) -> dict[Server, float]:
    """When the certificate of each ends, Unix time; without who has not answered in time."""
    looks = {server: _look(server) for server in servers}
    until_s = time.monotonic() + WAIT_S
    for look in looks.values():
        look.join(max(until_s - time.monotonic(), 0))
    ends = {server: look.end_s for server, look in looks.items()}
    return {server: end_s for server, end_s in ends.items() if end_s is not None}


def under_way_s(server: Server) -> float:
    """For how many seconds a look at a server has been under way; 0 where none is."""
    look = _newest.get(server)
    return time.monotonic() - look.began_s if look is not None and look.is_alive() else 0.0


def ends_in(pem: bytes) -> list[float]:
    """When the certificates of a file end, Unix time.

    Raises:
        ValueError: It has none, or one that is none.
    """
    from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415

    return [each.not_valid_after_utc.timestamp() for each in load_pem_x509_certificates(pem)]


def _look(server: Server) -> _Look:
    """The look that is under way, or a new one."""
    with _lock:
        look = _newest.get(server)
        if look is None or not look.is_alive():
            look = _newest[server] = _Look(server)
            look.start()
        return look
