"""Lines of the log as entries of journald, by its native protocol: a datagram of fields each."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec

__all__ = ["Journal"]

_SOCKET = Path("/run/systemd/journal/socket")
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_SHOWN = {"level", "message", "error"}
_WAIT_S = 0.2
_MOST_BYTES = 50_000
"""Of a field: a datagram of some fields has to fit the buffer of a socket."""

_decode = msgspec.json.Decoder(dict[str, str | int]).decode


class Journal:
    """Sends each line of the log; `journalctl -t market-pipeline` shows them.

    Args:
        path: The socket of journald.
    """

    def __init__(self, path: Path = _SOCKET) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(_WAIT_S)  # one that stands still must not hold up who logs

    def write(self, line: bytes, *, is_error: bool) -> None:
        """Sends a line; that it is of an error its priority says.

        Raises:
            OSError: Nobody takes it, or not soon.
        """
        fields = _decode(line)
        entry = {
            "SYSLOG_IDENTIFIER": "market-pipeline",
            "PRIORITY": str(_PRIORITIES.get(str(fields["level"]), 5)),
            "MESSAGE": "\n".join(filter(None, map(str, (fields["message"], fields.get("error"))))),
            **{name.upper(): f"{fields[name]}" for name in fields.keys() - _SHOWN},
        }
        self._socket.sendto(b"".join(map(_field, entry, entry.values())), str(self._path))

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()


def _field(name: str, text: str) -> bytes:
    value = text.encode()[:_MOST_BYTES]
    if b"\n" not in value:
        return name.encode() + b"=" + value + b"\n"
    return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
