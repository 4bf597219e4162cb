"""The keys that open sealed files: which there are, what each is for, and what they wrap.

A key is HKDF-SHA256 of the master key, with its purpose and id as info, and is never stored. So the
ring holds no secret; it says which key is in use and which was destroyed. A pair's public half
alone lets a host seal what it cannot open. A key may also lie in a service of another package.

Sources: RFC 5869 (HKDF), RFC 3394 (AES key wrap), RFC 9180 (HPKE), RFC 7914 (scrypt).
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_wrap,
)

from market_pipeline.errors import SealError, SettingsError
from market_pipeline.security.envelope import Head, Slot, Wrapping, read_whole
from market_pipeline.security.segments import FILE_KEY_BYTES
from market_pipeline.security.services import key_service
from market_pipeline.warehouse.layout import make_private_folder, written_whole
from market_pipeline.warehouse.locks import locking

__all__ = ["KEYS_FOLDER", "PURPOSES", "RING", "Key", "KeyRing", "Purpose"]

Purpose = Literal["captures", "raw", "exports", "backups", "secrets"]
PURPOSES: tuple[Purpose, ...] = ("captures", "raw", "exports", "backups", "secrets")

KEYS_FOLDER = "keys"
"""Where the ring lies below the data folder."""
RING = "ring.json"
"""Its file."""
_LOCK = "lock"
# Thousands of keys.
_MAX_RING_BYTES = 1 << 22
# Who destroys a key looks through folders first.
_WAIT_SECONDS = 3_600.0
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_INFO = b"market-pipeline key 1 "
_PUBLIC = re.compile(r"([a-z]+)-(\d{8}-[0-9a-f]{8}):(\S+)")


class Key(msgspec.Struct, frozen=True):
    """A key of the ring.

    Attributes:
        id: Its name in slots and errors, such as `captures-20261125-0f1e2d3c`.
        purpose: What it seals.
        kind: How it wraps: `aes-kw` with a derived key, `hpke-x25519` for a public key, `service`
            by a key service.
        state: `active` (the one that seals), `retired` (opens only) or `destroyed`.
        check: Tells another master key from the right one; null where none is needed.
        public_key: Of a pair; null else.
        service: Which key of which service; null else.
    """

    id: str
    purpose: Purpose
    kind: Wrapping
    state: Literal["active", "retired", "destroyed"]
    check: bytes | None = None
    public_key: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)] | None = None
    service: str | None = None

    @property
    def public_text(self) -> str:
        """What a host is given that may seal and not open."""
        return f"{self.id}:{base64.b64encode(self.public_key or b'').decode()}"


_keys = msgspec.json.Decoder(list[Key])


class KeyRing:
    """The keys of a folder.

    Args:
        folder: Where the ring lies; made, mode 0700, with the first key.
        master: The master key, 32 bytes; None on a host that has public halves only.

    Raises:
        SealError: The ring cannot be read.
    """

    def __init__(self, folder: Path, master: bytes | None) -> None:
        self._folder, self._master = folder, master
        self.path = folder / RING
        self.keys: tuple[Key, ...] = self._read()

    def new(self, purpose: Purpose, *, pair: bool = False) -> Key:
        """Makes the key that seals from now on; the one before it goes on opening.

        Raises:
            SealError: There is no master key, or it is not the one the others were made with.
        """
        self._require_its_master()
        key_id = _new_id(purpose)
        derived = self._derived(purpose, key_id)
        public = _pair(derived).public_key().public_bytes_raw() if pair else None
        kind: Wrapping = "hpke-x25519" if pair else "aes-kw"
        return self._add(Key(key_id, purpose, kind, "active", _check(derived), public))

    def new_of_service(self, purpose: Purpose, service: str) -> Key:
        """Takes a key of a service, `SERVICE` or `SERVICE:KEY`, to seal with from now on.

        Raises:
            SettingsError: No package brings that service, or it does not begin.
            SealError: It refuses, shows what it wraps, or opens it wrongly.
        """
        probe, of = os.urandom(FILE_KEY_BYTES), key_service(service)
        wrapped = of.wrap(probe, _INFO)
        if probe in wrapped or of.unwrap(wrapped, _INFO) != probe:
            raise self._unusable(f"the service {service} shows what it wraps, or opens it wrongly")
        return self._add(Key(_new_id(purpose), purpose, "service", "active", service=service))

    def adopt(self, public_text: str) -> Key:
        """Takes a pair's public half, as `public_text` of the host that may open has it.

        Raises:
            SealError: It is no such text.
        """
        found = _PUBLIC.fullmatch(public_text.strip())
        purpose = next((each for each in PURPOSES if found and found[1] == each), None)
        try:
            public = base64.b64decode(found[3] if found else "", validate=True)
            _SUITE.encrypt(b"", X25519PublicKey.from_public_bytes(public))  # some points do not
        except (binascii.Error, ValueError):
            purpose = None
        if found is None or purpose is None:
            raise SealError(
                "The public key cannot be read",
                next_step="Copy what `market-pipeline keys new --pair` printed, whole.",
                expected="PURPOSE-DATE-NUMBER:BASE64",
                found=public_text,
            )
        key_id = f"{purpose}-{found[2]}"
        return self._add(Key(key_id, purpose, "hpke-x25519", "active", None, public))

    def destroy(self, key_id: str, *, agreed: Callable[[], bool] = lambda: True) -> Key:
        """Marks a key as destroyed: it neither seals nor opens from now on.

        Args:
            key_id: The key.
            agreed: Whether what it opens is still what was agreed to; asked while no key is
                given a file.

        Raises:
            SealError: There is no such key, or it opens something else.
        """
        self.named(key_id)
        with self._changing():
            key = self.named(key_id)
            if not agreed():
                raise SealError(
                    "What the key opens has changed meanwhile",
                    next_step="Nothing is destroyed. Look again what it opens.",
                    file=self.path,
                    found=key_id,
                )
            gone = msgspec.structs.replace(key, state="destroyed", check=None, public_key=None)
            self._write([gone if each.id == key_id else each for each in self.keys])
        return gone

    def named(self, key_id: str) -> Key:
        """The key of that id.

        Raises:
            SealError: There is no such key.
        """
        for key in self.keys:
            if key.id == key_id:
                return key
        raise SealError(
            "There is no such key",
            next_step="`market-pipeline keys list` shows those there are.",
            file=self.path,
            expected="the id of a key",
            found=key_id,
        )

    def active(self, purpose: str) -> Key:
        """The key that seals for a purpose.

        Raises:
            SealError: There is none.
        """
        for key in self.keys:
            if (key.purpose, key.state) == (purpose, "active"):
                return key
        raise SealError(
            f"There is no key for {purpose}",
            next_step=f"Make one: `market-pipeline keys new {purpose}`.",
            file=self.path,
        )

    def opens(self, purpose: str) -> bool:
        """Whether this host is meant to open what it seals for a purpose.

        Raises:
            SealError: There is no key that seals.
        """
        key = self.active(purpose)
        return key.service is not None or (self._master is not None and key.check is not None)

    def wrap(self, head: Head, file_key: bytes) -> Slot:
        """A file's key in a slot of the active key of its purpose.

        Raises:
            SealError: There is no such key, or the master key is not the one it was made with.
        """
        key = self.active(head.purpose)
        if key.service is not None:
            wrapped = key_service(key.service).wrap(file_key, _slot_info(head))
            return Slot(key.id, "service", wrapped)
        if key.public_key is not None:
            try:
                public = X25519PublicKey.from_public_bytes(key.public_key)
                wrapped = _SUITE.encrypt(file_key, public, _slot_info(head))
            except ValueError:
                raise self._unusable(f"{key.id}: its public half is none") from None
            return Slot(key.id, "hpke-x25519", wrapped)
        derived = self._derived(key.purpose, key.id)
        if key.check != _check(derived):
            raise self._unusable(f"{key.id}: {_OTHER_MASTER}")
        return Slot(key.id, "aes-kw", aes_key_wrap(derived, file_key + bytes.fromhex(head.file_id)))

    def unwrap(self, path: Path, head: Head, slots: Sequence[Slot]) -> bytes:
        """The key of a file, from the first of its slots that opens.

        Raises:
            SealError: None does; it says of each why.
        """
        self.keys = self._read()
        reasons = []
        for slot in slots:
            found = self._unwrapped(head, slot)
            if isinstance(found, bytes):
                return found
            reasons.append(f"{slot.key}: {found}")
        raise self._unusable("; ".join(reasons) or "the file has no slot left", path)

    def _unwrapped(self, head: Head, slot: Slot) -> bytes | str:
        """A file's key, or why the slot does not give it."""
        known = next((key for key in self.keys if key.id == slot.key), None)
        if known is not None and known.state == "destroyed":
            return "it was destroyed"
        if slot.kind == "service":
            return self._of_service(known, head, slot)
        if self._master is None:
            return "no master key is set"
        derived = self._derived(head.purpose, slot.key)
        try:
            if slot.kind == "aes-kw":
                file_key = aes_key_unwrap(derived, slot.wrapped)
                if file_key[FILE_KEY_BYTES:].hex() != head.file_id:
                    return "the slot is of another file"
                return file_key[:FILE_KEY_BYTES]
            return _SUITE.decrypt(slot.wrapped, _pair(derived), _slot_info(head))
        except (InvalidUnwrap, InvalidTag, ValueError):
            pass
        if known is None:
            return "it is not in the ring, and this master key does not open its slot"
        if known.check not in (None, _check(derived)):
            return _OTHER_MASTER
        return "the slot was changed, or is of another file"

    @staticmethod
    def _of_service(known: Key | None, head: Head, slot: Slot) -> bytes | str:
        if known is None or known.service is None:
            return "it is not in the ring, which says what service opens it"
        try:
            return key_service(known.service).unwrap(slot.wrapped, _slot_info(head))
        except SealError as error:
            return str(error.found)
        except SettingsError as error:
            return "; ".join(error.problems)

    def _require_its_master(self) -> None:
        for key in self.keys:
            if key.check not in (None, _check(self._derived(key.purpose, key.id))):
                raise self._unusable(f"{key.id}: {_OTHER_MASTER}")

    def _unusable(self, found: str, path: Path | None = None) -> SealError:
        return SealError(
            "No key opens the sealed file" if path else "The key cannot be used",
            next_step=(
                "Set PIPELINE_MASTER_KEY to the one it was sealed under, or look after the key "
                "service; what a destroyed key sealed is gone."
            ),
            file=path or self.path,
            expected="a key of the ring",
            found=found,
        )

    def _derived(self, purpose: str, key_id: str) -> bytes:
        if self._master is None:
            raise self._unusable("no master key is set")
        info = _INFO + f"{purpose} {key_id}".encode()
        return HKDF(SHA256(), 32, None, info).derive(self._master)

    def _add(self, key: Key) -> Key:
        with self._changing():
            if any(each.id == key.id for each in self.keys):
                raise SealError(
                    "The ring has a key of that id already",
                    next_step="Nothing to do, or make another pair.",
                    file=self.path,
                    found=key.id,
                )
            before = [
                msgspec.structs.replace(each, state="retired")
                if (each.purpose, each.state) == (key.purpose, "active")
                else each
                for each in self.keys
            ]
            self._write([*before, key])
        return key

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """With the ring as it is on the disk, while nobody makes or destroys a key.

        So no file is given to a key that another process has destroyed.
        """
        with ExitStack() as held:
            # A folder of its own: a file may be sealed beside the ring. Who has none has no key.
            if (lock := self._folder / _LOCK).is_dir():
                held.enter_context(locking(lock, shared=True, timeout_seconds=_WAIT_SECONDS))
            self.keys = self._read()
            yield

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Alone with the ring as it is on the disk."""
        make_private_folder(lock := self._folder / _LOCK)
        with locking(lock):
            self.keys = self._read()
            yield

    def _write(self, keys: Sequence[Key]) -> None:
        with written_whole(self.path) as file:
            file.write(msgspec.json.format(msgspec.json.encode(keys), indent=1) + b"\n")
        self.keys = tuple(keys)

    def _read(self) -> tuple[Key, ...]:
        try:
            return tuple(_keys.decode(read_whole(self.path, _MAX_RING_BYTES)))
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, RecursionError) as error:
            raise SealError(
                "The ring of keys cannot be read",
                next_step="Put it back from a backup; it holds no secret.",
                file=self.path,
                expected="a list of keys",
                found=str(error),
            ) from error


_OTHER_MASTER = "the master key is not the one it was made with"


def _new_id(purpose: str) -> str:
    return f"{purpose}-{datetime.now(UTC):%Y%m%d}-{os.urandom(4).hex()}"


def _check(derived: bytes) -> bytes:
    return HKDF(SHA256(), 8, None, _INFO + b"check").derive(derived)


def _pair(derived: bytes) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(derived)


def _slot_info(head: Head) -> bytes:
    return f"market-pipeline slot 1 {head.file_id}".encode()
