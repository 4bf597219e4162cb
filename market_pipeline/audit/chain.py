"""An entry of the audit log as a line of JSON, and the code that chains it to the one before.

An entry's code (MAC) is HMAC-SHA256 over the code of the entry before it and its own bytes, so that
no entry is changed, left out or moved without the codes behind it telling. The key is derived from
the master key. Without a master key it is plain SHA-256, which whoever may write the file can
compute as well: such an entry proves its place until the next one with a key, and no author.

Sources: RFC 2104 (HMAC), RFC 5869 (HKDF).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any, Literal, get_args

import msgspec

__all__ = ["ACTIONS", "Action", "ChainKey", "Entry", "line_of", "parsed"]

Action = Literal["read", "write", "delete", "key", "secret", "settings", "verb", "torn"]
ACTIONS: tuple[Action, ...] = get_args(Action)

_INFO = b"market-pipeline audit 1"
_CODE = b',"mac":"'
_END = b'"}'


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One access.

    Attributes:
        sequence: Counts all entries of a log from 1, over all its files.
        time: UTC, ISO 8601 with microseconds.
        component: What made it: `cli`, `run`, `dagster`, `python`.
        process: Its process id.
        user: The name of the user that the process ran as.
        why: The run id or the verb.
        action: What was done. `torn` accounts for a line that a killed process left unfinished.
        what: To what: table, instruments, day, files, hashes; never a value of a setting.
        mac: Chains it to the entry before.
    """

    sequence: int
    time: str
    component: str
    process: int
    user: str
    why: str
    action: Action
    what: dict[str, Any]
    mac: str = ""


_entries = msgspec.json.Decoder(Entry)
_encode = msgspec.json.Encoder(enc_hook=str).encode


@dataclass(frozen=True, slots=True)
class ChainKey:
    """What codes are computed with; without a secret they are plain hashes.

    Attributes:
        secret: 32 bytes, or None.
        name: Tells keys apart, and is no secret.
    """

    secret: bytes | None = None
    name: str = ""

    @classmethod
    def derived(cls, master: bytes) -> ChainKey:
        """The key of a master key: HKDF-SHA256 of one block, with the purpose as info."""
        secret = _expanded(master, _INFO)
        return cls(secret, _expanded(secret, _INFO + b" name").hex()[:8])

    @property
    def prefix(self) -> str:
        """How the codes of this key begin."""
        return f"hmac:{self.name}:" if self.secret else "sha256:"

    def code(self, before: str, body: bytes) -> str:
        """The code of an entry's bytes behind that of the entry before; "" before the first."""
        message = before.encode() + body
        if self.secret is None:
            return self.prefix + hashlib.sha256(message).hexdigest()
        return self.prefix + hmac.digest(self.secret, message, "sha256").hex()


def _expanded(secret: bytes, info: bytes) -> bytes:
    return hmac.digest(hmac.digest(bytes(32), secret, "sha256"), info + b"\x01", "sha256")


def line_of(entry: Entry, before: str, key: ChainKey) -> tuple[bytes, str]:
    """The line of an entry that has no code yet, and the code."""
    try:
        body = _encode(entry)[:-1]
    except UnicodeEncodeError:  # a name on the disk or the command line need not be text
        body = _encode(msgspec.structs.replace(entry, what={"text": ascii(entry.what)}))[:-1]
    code = key.code(before, body)
    return b"".join((body, _CODE, code.encode(), _END, b"\n")), code


def parsed(line: bytes) -> tuple[Entry, bytes] | None:
    """The entry of a line, and the bytes that its code is over; None if it is no entry."""
    body, found, rest = line.rpartition(_CODE)
    if not found or not rest.endswith(_END):
        return None
    try:
        return _entries.decode(line), body
    except (msgspec.DecodeError, RecursionError):
        return None
