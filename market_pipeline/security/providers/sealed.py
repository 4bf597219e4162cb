"""Secrets of one sealed file below the data folder, `keys/secrets.sealed`.

It is opened by the master key, so that one secret is enough for all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import msgspec

from market_pipeline.errors import SealError
from market_pipeline.security.envelope import read_all_slots, slots_path, write_slots
from market_pipeline.security.files import open_sealed, sealed_whole
from market_pipeline.security.master import master_key
from market_pipeline.security.providers.checked import refused
from market_pipeline.security.ring import KEYS_FOLDER, KeyRing, Purpose
from market_pipeline.warehouse.locks import locking

if TYPE_CHECKING:
    from market_pipeline.config.settings import Settings

__all__ = ["SecretFile", "read"]

_NAME = "sealed"
_FILE, _NEXT = "secrets.sealed", "secrets.next.sealed"
_PURPOSE: Purpose = "secrets"
_LOCK = "secrets.lock"
_values = msgspec.json.Decoder(dict[str, str])


def read(settings: Settings) -> dict[str, str]:
    """What is in the file now; nothing if there is none.

    Raises:
        SettingsError: It cannot be opened.
    """
    try:
        return SecretFile(settings).values()
    except (SealError, OSError) as error:
        raise refused(_NAME, "provider", f"{error}".rstrip(".")) from None


class SecretFile:
    """The sealed file: names of settings, or of the store's credentials, and their values.

    Args:
        settings: With the master key.

    Raises:
        SettingsError: Of the master key.
        SealError: The ring of keys cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        folder = settings.data_dir / KEYS_FOLDER
        self._ring = KeyRing(folder, master_key(settings, folder))
        self.path = folder / _FILE

    def values(self) -> dict[str, str]:
        """What it holds, by name.

        Raises:
            SealError: No key opens it, or it is not as it was sealed.
        """
        if not self.path.exists():
            return {}
        with open_sealed(self.path, self._ring) as file:
            return _values.decode(file.read())

    def set(self, name: str, value: str) -> None:
        """Puts a value in the place of the one of before, or adds it.

        Raises:
            SealError: As `values`, or there is no master key.
        """
        with self._changing():
            self._write(self.values() | {name: value})

    def remove(self, name: str) -> bool:
        """Takes a value out; whether it was there.

        Raises:
            SealError: As `values`.
        """
        with self._changing():
            values = self.values()
            found = values.pop(name, None) is not None
            if found:
                self._write(values)
            return found

    def rotate(self) -> str:
        """Seals it anew, with a new key of the ring; gives that key's id.

        Raises:
            SealError: As `values`, or there is no master key.
        """
        with self._changing():
            values = self.values()
            key = self._ring.new(_PURPOSE)
            self._write(values)
            return key.id

    @contextmanager
    def _changing(self) -> Iterator[None]:
        if not any((key.purpose, key.state) == (_PURPOSE, "active") for key in self._ring.keys):
            self._ring.new(_PURPOSE)  # makes the folder
        lock = self.path.with_name(_LOCK)
        lock.mkdir(mode=0o700, exist_ok=True)
        with locking(lock):
            yield

    def _write(self, values: dict[str, str]) -> None:
        """Replaces the file at one moment: the slots that open the new one are there before it."""
        following = self.path.with_name(_NEXT)
        for left in (following, slots_path(following)):  # by who was killed
            left.unlink(missing_ok=True)
        with sealed_whole(following, self._ring, _PURPOSE) as file:
            file.write(msgspec.json.encode(values))
        new = read_all_slots(following)
        with locking(self.path.parent):
            old = {}
            with suppress(SealError):
                old = read_all_slots(self.path)
            write_slots(self.path, old | new)
            following.replace(self.path)
            write_slots(self.path, new)
        slots_path(following).unlink(missing_ok=True)
