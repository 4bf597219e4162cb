"""What of the settings and of the environment is secret, made known to `scrub` when it is read.

Also of settings that are refused: an error of a library may hold them.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from market_pipeline.scrub.guessed import is_secret_name
from market_pipeline.scrub.scrubber import learn

__all__ = ["learn_address", "learn_environment", "learn_secret", "learn_variables"]

_FEWEST_RAW = 16
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^\s,]+", re.IGNORECASE)
# A part of a path that nobody would read aloud: `T024BE7LD`, and not `webhooks`.
_TOKEN = re.compile(r"(?=.*\d)[\w.~+=:-]{8,}|[\w.~+=:-]{20,}")
# What only says where a secret is, and the current folder.
_NO_VALUE = re.compile(r"_(FILE|PATH|DIR|DIRECTORY|FOLDER|URI|NAME|COMMAND)S?$|^(OLD)?PWD$")
_AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def learn_secret(text: str) -> None:
    """Makes a secret known: as it is, the parts of addresses in it, and the bytes of base64."""
    learn(text)
    addresses = [each.strip() for each in text.split(",") if "://" in each]
    for address in addresses:
        learn(address)
        learn_address(address, whole_path=True)
    if not addresses:
        try:
            raw = base64.b64decode(text.strip(), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return
        if len(raw) >= _FEWEST_RAW:
            learn(raw.decode("latin-1"), raw.hex(), raw.hex().upper())


def learn_address(text: str, *, whole_path: bool = False) -> None:
    """Makes known what is secret of the web addresses in a text: their logins and queries.

    Args:
        text: Any.
        whole_path: Whether their paths are secret too, as those of webhooks.
    """
    for found in _ADDRESS.finditer(text):
        try:
            parts = urlsplit(found[0])
        except ValueError:  # its text would hold the address
            continue
        login = parts.netloc.rpartition("@")[0]
        user, _, password = login.partition(":")
        learn(login, unquote(login), password, unquote(password))
        if not password or _TOKEN.fullmatch(user):
            learn(user, unquote(user))
        if whole_path or any(is_secret_name(name) for name, _ in parse_qsl(parts.query)):
            learn(parts.query, *(value for _, value in parse_qsl(parts.query)))
        if whole_path:
            tokens = [each for each in parts.path.split("/") if _TOKEN.fullmatch(unquote(each))]
            learn(*tokens, *map(unquote, tokens))
            if tokens:
                learn(parts.path.strip("/"))


def learn_variables(values: Mapping[str, str | None]) -> None:
    """Makes known what variables hold that are named as secrets are, and logins in the others."""
    for name, value in values.items():
        if not value:
            continue
        if name in _AWS or (is_secret_name(name) and not _is_place(name, value)):
            learn_secret(value)
        elif "://" in value:
            learn_address(value)


def _is_place(name: str, value: str) -> bool:
    """Whether a variable says where a secret is: by its name, or as that file or folder is there.

    All paths below it would be taken out of every text.
    """
    if _NO_VALUE.search(name.upper()):
        return True
    with suppress(OSError, ValueError):  # too long for a path
        return Path(value).is_absolute() and Path(value).exists()
    return False


def learn_environment() -> None:
    """Makes known what is secret in the environment of this process."""
    learn_variables(os.environ)
