"""The master key: from a variable, a file or a passphrase, whichever is set; and its ring."""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from market_pipeline.config.secret_values import learn_secret
from market_pipeline.config.security import MASTER_KEY_BYTES, SecuritySettings, master_key_of
from market_pipeline.config.settings import Settings
from market_pipeline.errors import SettingsError
from market_pipeline.security.envelope import read_whole
from market_pipeline.security.ring import KEYS_FOLDER, RING, KeyRing, Purpose
from market_pipeline.warehouse.layout import make_private_folder, written_whole
from market_pipeline.warehouse.locks import locking

__all__ = ["master_key", "ring_of", "sealing_ring"]

_SALT = "passphrase.salt"
_SALT_BYTES = 16
_MAX_BYTES = 1_000
# RFC 7914's cost: 128 MiB and some tenths of a second for each guess.
_COST, _BLOCK, _PARALLEL = 1 << 17, 8, 1


def ring_of(settings: Settings, *, with_master: bool = True) -> KeyRing:
    """The keys that settings name, to open files with if `with_master`.

    Raises:
        SettingsError: See `master_key`.
        SealError: The ring cannot be read.
    """
    folder = settings.data_dir / KEYS_FOLDER
    return KeyRing(folder, master_key(settings, folder) if with_master else None)


def sealing_ring(settings: Settings, purpose: Purpose) -> KeyRing | None:
    """The keys to seal new files of a purpose with; None if the settings leave them plain.

    Raises:
        SettingsError: See `master_key`.
        SealError: There is no key for the purpose, or the ring cannot be read.
    """
    if purpose not in settings.seal:
        return None
    ring = ring_of(settings)
    ring.active(purpose)
    return ring


def master_key(settings: SecuritySettings, folder: Path) -> bytes | None:
    """The master key, 32 bytes; None where nothing is set.

    Args:
        settings: What is set.
        folder: Of the ring; holds the salt of a passphrase, which is no secret and is needed again.

    Raises:
        SettingsError: More than one is set, or the file is no key or may be read by others.
    """
    key, file, passphrase = (
        settings.master_key,
        settings.master_key_file,
        settings.master_passphrase,
    )
    if sum(each is not None for each in (key, file, passphrase)) > 1:
        raise SettingsError(
            ["master_key, master_key_file, master_passphrase: more than one is set. Keep one."]
        )
    if key is not None:
        return master_key_of(key.get_secret_value())
    if file is not None:
        return _from_file(file)
    if passphrase is not None:
        return _from_passphrase(passphrase.get_secret_value(), folder)
    return None


def _from_file(path: Path) -> bytes:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise ValueError(f"others may read it (mode {mode:o}); `chmod 600` it")
        # An error of decoding would show a byte of it.
        text = read_whole(path, _MAX_BYTES).decode(errors="replace")
        learn_secret(text)
        return master_key_of(text)
    except (OSError, ValueError) as error:
        raise SettingsError([f"master_key_file {path}: {error}"]) from None


def _from_passphrase(passphrase: str, folder: Path) -> bytes:
    path = folder / _SALT
    try:
        if not path.exists():
            make_private_folder(folder)
            with locking(folder):
                # Nothing of a ring opens with another salt than its own: a lost one is put back.
                if not path.exists() and not (folder / RING).exists():
                    with written_whole(path) as file:
                        file.write(os.urandom(_SALT_BYTES).hex().encode() + b"\n")
        salt = bytes.fromhex(read_whole(path, _MAX_BYTES).decode().strip())
        if len(salt) != _SALT_BYTES:
            raise ValueError(f"expected {_SALT_BYTES} bytes in hexadecimal")
    except (OSError, ValueError) as error:
        raise SettingsError([f"master_passphrase: {path}: {error}"]) from None
    return _derived(passphrase, salt)


@lru_cache(maxsize=1)
def _derived(passphrase: str, salt: bytes) -> bytes:
    """Derived once: every sealed file that is opened asks for it."""
    derive = Scrypt(salt, MASTER_KEY_BYTES, _COST, _BLOCK, _PARALLEL)
    return derive.derive(passphrase.encode(errors="surrogateescape"))
